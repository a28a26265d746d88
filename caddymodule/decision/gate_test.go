package decision

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
)

type gate struct {
	name   string
	passes bool
	asked  *[]string
}

var errGate = errors.New("the gate's")

func (g gate) SessionSettled(http.ResponseWriter, *http.Request, *Decision) (bool, error) {
	*g.asked = append(*g.asked, g.name)
	if !g.passes {
		return false, errGate
	}
	return true, nil
}

func TestSessionSettled_asksEachGateOnceUntilOneRefuses(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest("GET", "/", nil)
	d, asked := new(Decision), []string{}
	if passes, err := d.SessionSettled(nil, r); !passes || err != nil {
		t.Error("no gate, and it does not pass")
	}
	for _, g := range []gate{{"one", true, &asked}, {"two", false, &asked}, {"three", true, &asked}} {
		d.AfterSession(g)
	}
	if passes, err := d.SessionSettled(nil, r); passes || !errors.Is(err, errGate) || len(asked) != 2 {
		t.Errorf("%v, %v, asked %q", passes, err, asked)
	}
	if passes, _ := d.SessionSettled(nil, r); !passes || len(asked) != 3 || asked[2] != "three" {
		t.Errorf("the second edge_session: asked %q", asked)
	}
}
