package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/regionalsvc/demo"
)

// comesBack starts a region that a failed test has left dead, for the next tests.
func comesBack(t *testing.T, r *demo.Region) {
	t.Helper()
	t.Cleanup(func() {
		select {
		case <-r.Exited():
			if err := r.Start(context.Background()); err != nil {
				t.Error(err)
			}
		default:
		}
	})
}

func TestRegionDown_isAnOutageOfItsOwnTenantsAlone(t *testing.T) {
	for _, row := range []struct {
		down            *demo.Region
		theirs, another string
	}{{eu(), ada, grace}, {us(), grace, ada}} {
		t.Run(row.down.Region, func(t *testing.T) {
			var hit, spared [2]*browser
			var customerID string
			for i, pop := range topology.POPs {
				hit[i], spared[i] = login(t, pop, row.theirs), login(t, pop, row.another)
				customerID = hit[i].customer(t)
			}
			comesBack(t, row.down)
			if err := row.down.Kill(); err != nil {
				t.Fatal(err)
			}
			for i := range topology.POPs {
				for _, a := range []answer{
					hit[i].get(t, "/api/orders"),
					hit[i].post(t, "/api/orders", newOrder{customerID, 1299}),
				} {
					a.is(t, http.StatusServiceUnavailable, "region-unavailable")
					if a.header.Get("Retry-After") == "" {
						t.Errorf("503 without Retry-After: %s", a)
					}
				}
				spared[i].place(t, 1299)
			}
			if err := row.down.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			for i := range topology.POPs { // and no POP was reloaded
				await(t, "the POP to ask the region again", func() bool { return hit[i].get(t, "/api/orders").status == http.StatusOK })
				hit[i].place(t, 1299)
			}
		})
	}
}

// orderLoad places orders until it is told to stop: each with a key and a sum of
// its own, and again with both until it is acknowledged, as a careful client does.
type orderLoad struct {
	stop    chan struct{}
	workers sync.WaitGroup

	mu           sync.Mutex
	acknowledged map[string]int64 // order id to sum
	outcomes     map[string]int
}

// sumsOfOne is how many sums each run of a test has for its orders, so that it finds
// them again among those of others.
const sumsOfOne = 10_000_000

var runs atomic.Int64

// newSums gives the sum below the first of a run's own.
func newSums() int64 { return runs.Add(1) * sumsOfOne }

func startOrders(t *testing.T, browsers []*browser, firstSum int64) *orderLoad {
	t.Helper()
	l := &orderLoad{stop: make(chan struct{}), acknowledged: map[string]int64{}, outcomes: map[string]int{}}
	customerID := browsers[0].customer(t)
	run := fmt.Sprintf("load-%d", rand.Uint64())
	var sums atomic.Int64
	sums.Store(firstSum)
	for i := range 8 {
		b := browsers[i%len(browsers)]
		l.workers.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
					l.order(t, b, newOrder{customerID, sums.Add(1)}, run)
				}
			}
		})
	}
	return l
}

// order places one order, however often that takes.
func (l *orderLoad) order(t *testing.T, b *browser, wanted newOrder, run string) {
	key := fmt.Sprintf("%s-%d", run, wanted.TotalCents)
	for giveUp := time.Now().Add(time.Minute); time.Now().Before(giveUp); {
		a, err := b.try(http.MethodPost, "/api/orders", encode(wanted), "Content-Type", "application/json", "Idempotency-Key", key)
		l.count(a, err)
		switch {
		case err == nil && a.status == http.StatusCreated:
			placed := decode[order](t, a)
			l.mu.Lock()
			l.acknowledged[placed.ID] = wanted.TotalCents
			l.mu.Unlock()
			return
		case err == nil && a.status < 500 && a.status != http.StatusConflict:
			t.Errorf("order: %s", a)
			return
		}
	}
	t.Errorf("order %s was never acknowledged", key)
}

func (l *orderLoad) count(a answer, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil:
		l.outcomes["no answer"]++
	case strings.Contains(string(a.body), `"outcome":"unknown"`):
		l.outcomes[fmt.Sprintf("%d, outcome unknown", a.status)]++
	default:
		l.outcomes[fmt.Sprint(a.status)]++
	}
}

// placed is how many orders were acknowledged so far.
func (l *orderLoad) placed() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acknowledged)
}

// finish waits for the orders begun.
func (l *orderLoad) finish() {
	close(l.stop)
	l.workers.Wait()
}

// check compares what was acknowledged with what is there.
func (l *orderLoad) check(t *testing.T, b *browser, firstSum int64) {
	t.Helper()
	there := map[string]int64{}
	sums := map[int64]int{}
	for _, o := range b.orders(t) {
		there[o.ID] = o.TotalCents
		if o.TotalCents > firstSum && o.TotalCents < firstSum+sumsOfOne {
			sums[o.TotalCents]++
		}
	}
	for id, sum := range l.acknowledged {
		if there[id] != sum {
			t.Errorf("order %s over %d was acknowledged; found: %d", id, sum, there[id])
		}
	}
	for sum, n := range sums {
		if n != 1 {
			t.Errorf("the order over %d was placed %d times", sum, n)
		}
	}
	if len(sums) != len(l.acknowledged) {
		t.Errorf("%d orders are there, %d were acknowledged", len(sums), len(l.acknowledged))
	}
}

func TestRegionStop_underLoadLosesNothingAcknowledgedAndDoublesNothing(t *testing.T) {
	firstSum := newSums()
	browsers := []*browser{login(t, fra(), ada), login(t, iad(), ada)}
	comesBack(t, eu())
	load := startOrders(t, browsers, firstSum)
	for range 3 {
		before := load.placed()
		await(t, "orders under way", func() bool { return load.placed() > before+50 })
		if err := eu().Stop(); err != nil { // SIGTERM; killing it is an error
			t.Error(err)
		}
		if state := eu().ExitCode(); state != 0 {
			t.Errorf("region eu ended with exit code %d\n%s", state, eu().Tail())
		}
		if err := eu().Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	before := load.placed()
	await(t, "orders after the last start", func() bool { return load.placed() > before+50 })
	load.finish()
	t.Logf("%d orders acknowledged; answers: %v", len(load.acknowledged), load.outcomes)
	load.check(t, browsers[0], firstSum)
	if n := load.outcomes["no answer"]; n > 0 {
		t.Errorf("a POP left %d requests without any answer", n)
	}
}

// Caddy may close a connection that is idle while a request to it is already on
// its way: HTTP has no way to say so (RFC 9112, section 9.3.1), and a client may
// ask again. Such a request is in no log. Everything that Caddy read, it answers.
func TestReload_underLoadFailsNoRequestThatWasRead(t *testing.T) {
	firstSum := newSums()
	b := login(t, fra(), ada)
	customerID := b.customer(t)
	var sum, answered, shed atomic.Int64
	var last atomic.Value // mark of a request with an answer
	sum.Store(firstSum)
	var mu sync.Mutex
	var unanswered []string // marks of requests without an answer
	stop := make(chan struct{})
	var workers sync.WaitGroup
	for i := range 8 {
		workers.Go(func() {
			mine := &browser{base: b.base, cookie: b.cookie, client: newClient()}
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				mark := fmt.Sprintf("reload-%d-%d-%d", firstSum, i, n)
				method, path, body, want := http.MethodGet, "/api/orders?limit=1&mark="+mark, []byte(nil), http.StatusOK
				if n%2 == 0 {
					method, path, want = http.MethodPost, "/api/orders?mark="+mark, http.StatusCreated
					body = encode(newOrder{customerID, sum.Add(1)})
				}
				a, err := mine.try(method, path, body, "Content-Type", "application/json")
				switch {
				case err != nil:
					mu.Lock()
					unanswered = append(unanswered, mark)
					mu.Unlock()
				case a.status == http.StatusServiceUnavailable: // a machine that does other things too: no connection in time
					a.is(t, http.StatusServiceUnavailable, "overloaded")
					shed.Add(1)
				case a.status != want:
					t.Errorf("%s %s: %s", method, path, a)
				default:
					answered.Add(1)
					last.Store(mark)
				}
			}
		})
	}
	const reloads = 5
	for range reloads {
		before := answered.Load()
		await(t, "answers", func() bool { return answered.Load() > before+100 })
		if err := fra().Reload(t.Context()); err != nil {
			t.Error(err)
		}
	}
	before := answered.Load()
	await(t, "answers after the last reload", func() bool { return answered.Load() > before+100 })
	close(stop)
	workers.Wait()

	log, err := os.ReadFile(fra().Log)
	if err != nil {
		t.Fatal(err)
	}
	read := func(mark string) bool { return strings.Contains(string(log), "mark="+mark+`"`) }
	if !read(last.Load().(string)) {
		t.Errorf("%s was answered and is in no log: the check below would find nothing", last.Load())
	}
	for _, mark := range unanswered {
		if read(mark) {
			t.Errorf("%s was read and not answered", mark)
		}
	}
	if shed.Load() > answered.Load()/100 {
		t.Errorf("the region was at its limit %d times", shed.Load())
	}
	t.Logf("%d requests answered during %d reloads, %d sent into a connection that was being closed", answered.Load(), reloads, len(unanswered))
}
