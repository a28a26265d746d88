package edge

import "sync"

// herald emits events in their order, one after the other, and beside whoever
// noticed: Caddy runs the handlers of an event before it returns, and one of them
// may be a command that loads another configuration, which waits for the requests
// and the checks of this one. So nobody waits for the herald either. It is there
// only while there is something to say.
type herald struct {
	mu      sync.Mutex
	waiting []event
	working bool
}

type event struct {
	name string
	data map[string]any
}

func (h *herald) emit(a *App, name string, data map[string]any) {
	if a.events == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting = append(h.waiting, event{name, data})
	if !h.working {
		h.working = true
		go h.work(a)
	}
}

func (h *herald) work(a *App) {
	for {
		h.mu.Lock()
		if len(h.waiting) == 0 {
			h.working = false
			h.mu.Unlock()
			return
		}
		e := h.waiting[0]
		h.waiting = h.waiting[1:]
		h.mu.Unlock()
		a.events.Emit(a.ctx, e.name, e.data)
	}
}
