package decision

import "net/http"

// Gate has a say in whether a request goes on, once it is settled whom the request
// speaks for. It is how a handler before edge_session decides by what edge_session
// finds.
type Gate interface {
	// SessionSettled reports whether the request passes. Where it does not, the
	// gate has answered, with [Decision.Refuse] for example, and the handler that
	// asked returns err.
	SessionSettled(w http.ResponseWriter, r *http.Request, d *Decision) (passes bool, err error)
}

// AfterSession has g asked once edge_session lets the request pass, with a session
// or without. Behind no edge_session it is never asked.
func (d *Decision) AfterSession(g Gate) { d.gates = append(d.gates, g) }

// SessionSettled asks every gate once, in the order in which they came, until one
// does not let the request pass. It is for edge_session alone.
func (d *Decision) SessionSettled(w http.ResponseWriter, r *http.Request) (passes bool, err error) {
	for len(d.gates) > 0 {
		g := d.gates[0]
		d.gates = d.gates[1:]
		if passes, err := g.SessionSettled(w, r, d); !passes {
			return false, err
		}
	}
	return true, nil
}
