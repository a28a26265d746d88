package edge

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-edge/gatehouse/caddymodule/health"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// fastPart is the part of its interval after which an upstream is checked again
// that is not well, or not sure to be.
const fastPart = 4

// checkBody is how much of a check's answer is read.
const checkBody = 4 << 10

// Send sends a request to an address, over the network and with the TLS that
// requests to a region have.
type Send func(r *http.Request, network, address string) (*http.Response, error)

// CheckThrough lets checks go the way of requests. The first to come is taken: a
// POP reaches a region in one way. It is for Provision alone.
func (a *App) CheckThrough(send Send) {
	if a.send == nil {
		a.send = send
	}
}

// startChecks begins to check every upstream that is to be. Where nothing sends
// requests to regions, nothing needs to be known of them.
func (a *App) startChecks() {
	if a.send == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.stopChecks = cancel
	for _, r := range a.Regions {
		if r.checks == nil {
			continue
		}
		for _, u := range r.reach {
			a.checking.Go(func() { u.watch(ctx) })
		}
	}
}

// endChecks ends them and waits for those under way.
func (a *App) endChecks() {
	if a.stopChecks != nil {
		a.stopChecks()
	}
	a.checking.Wait()
}

// watch checks the upstream until ctx ends, at once for the first time.
func (u *Upstream) watch(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		u.checkOnce(ctx)
		pause := time.Duration(u.region.checks.Interval)
		if !u.health.Steady() {
			pause /= fastPart
		}
		timer.Reset(time.Duration(float64(pause) * (0.9 + 0.2*rand.Float64())))
	}
}

// checkOnce checks the upstream and takes in what it finds.
func (u *Upstream) checkOnce(ctx context.Context) {
	began := time.Now()
	status, result, err := u.ask(ctx)
	if ctx.Err() != nil { // the configuration ends: it says nothing of the upstream
		return
	}
	now := time.Now()
	last := &checkup{at: now, took: now.Sub(began), result: result, status: status}
	if err != nil {
		last.err = err.Error()
	}
	u.last.Store(last)
	u.checks[result].Add(1)
	if c := u.health.Checked(result, now); c.Changed() {
		u.changed(c, "checks")
	}
}

// ask makes one check.
func (u *Upstream) ask(ctx context.Context) (status int, _ health.Result, _ error) {
	h := u.region.checks
	ctx, cancel := context.WithTimeout(ctx, time.Duration(h.Timeout))
	defer cancel()
	address := u.dial
	if h.Port != 0 {
		address = net.JoinHostPort(u.Network.Host, strconv.Itoa(h.Port))
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URI, nil)
	if err != nil {
		return 0, health.Failed, err
	}
	r.Header.Set("User-Agent", "gatehouse-edge/"+u.app.POP+" (health)")
	if err := u.assert(r.Header); err != nil {
		return 0, health.Failed, err
	}
	res, err := u.app.send(r, u.Network.Network, address)
	if err != nil {
		return 0, health.Failed, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, checkBody)) // for the connection to be used again
	switch {
	case res.StatusCode == http.StatusServiceUnavailable && bytes.HasPrefix(text, []byte(handoff.Draining)):
		return res.StatusCode, health.Leaving, nil
	case err != nil:
		return res.StatusCode, health.Failed, err
	case res.StatusCode < 200 || res.StatusCode > 299:
		return res.StatusCode, health.Failed, fmt.Errorf("status %d", res.StatusCode)
	}
	return res.StatusCode, health.Passed, nil
}

// assert puts the hand-off on a check to a region: nobody's, as every request
// carries. Another port is not the region's, and learns nothing.
func (u *Upstream) assert(header http.Header) error {
	if u.region.checks.Port != 0 {
		return nil
	}
	assertion, err := u.app.Sign(handoff.NewClaims(u.app.POP, u.region.Name, u.region.Name, handoff.Identity{}, time.Now()))
	if err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	header.Set(handoff.HeaderRequestID, id.String())
	header.Set(handoff.HeaderHomeRegion, u.region.Name)
	header.Set(handoff.HeaderAssertion, assertion)
	return nil
}
