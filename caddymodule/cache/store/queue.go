package store

// queue is a list of resources, the newest at its head.
type queue struct {
	root  resource // root.next is the head, root.prev the tail
	bytes int64
	count int
}

func (q *queue) init() { q.root.next, q.root.prev = &q.root, &q.root }

func (q *queue) empty() bool { return q.count == 0 }

func (q *queue) tail() *resource { return q.root.prev }

func (q *queue) push(r *resource) {
	r.prev, r.next = &q.root, q.root.next
	r.prev.next, r.next.prev = r, r
	q.bytes += r.weight
	q.count++
}

func (q *queue) remove(r *resource) {
	r.prev.next, r.next.prev = r.next, r.prev
	r.prev, r.next = nil, nil
	q.bytes -= r.weight
	q.count--
}

// minGhosts is how many names are remembered at least.
const minGhosts = 1024

// ghosts remembers what was taken out of the small queue, by a hash of its key:
// what comes again so soon goes to the main queue at once. Two keys with one hash
// do no harm but that.
type ghosts struct {
	known map[uint64]struct{}
	order []uint64 // a ring
	at    int
}

// add remembers a hash, beside as many others as there are objects.
func (g *ghosts) add(hash uint64, objects int) {
	if g.known == nil {
		g.known = map[uint64]struct{}{}
	}
	if _, ok := g.known[hash]; ok {
		return
	}
	g.known[hash] = struct{}{}
	if len(g.order) < max(minGhosts, objects) {
		g.order = append(g.order, hash)
		return
	}
	delete(g.known, g.order[g.at])
	g.order[g.at] = hash
	g.at = (g.at + 1) % len(g.order)
}

// take forgets a hash, and reports whether it was known.
func (g *ghosts) take(hash uint64) bool {
	_, ok := g.known[hash]
	delete(g.known, hash)
	return ok
}
