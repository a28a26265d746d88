package demo

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports of a demo, all on 127.0.0.1. An array's first is that of eu and fra, its
// second that of us and iad, but for NATS.
type Ports struct {
	POP, Admin, Region, Operator [2]int
	// NATS is the feed's broker: where it serves, and its monitoring.
	NATS [2]int
}

// EnvPortBase names the variable that shifts every port of the demo's command.
const EnvPortBase = "DEMO_PORT_BASE"

// DefaultPorts are those that the documentation speaks of, shifted by base.
func DefaultPorts(base int) Ports {
	at := func(first int) [2]int { return [2]int{first + base, first + 1 + base} }
	return Ports{POP: at(8080), Admin: at(2019), Region: at(9101), Operator: at(9191), NATS: [2]int{4222 + base, 8222 + base}}
}

// FreePorts picks ports that nobody listens on. It stays below the range from
// which systems take the ports of outgoing connections, so that none of those
// takes one before the demo does.
func FreePorts() (Ports, error) {
	var ports Ports
	taken := map[int]bool{}
	for _, pair := range ports.pairs() {
		for i := range pair.ports {
			port, err := freePort(taken)
			if err != nil {
				return Ports{}, err
			}
			pair.ports[i], taken[port] = port, true
		}
	}
	return ports, nil
}

const lowestFree, highestFree = 20000, 32000

func freePort(taken map[int]bool) (int, error) {
	for range 1000 {
		port := lowestFree + rand.IntN(highestFree-lowestFree)
		if !taken[port] && tryListen(port) == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free port found between %d and %d", lowestFree, highestFree)
}

type portPair struct {
	names [2]string
	ports *[2]int
}

// pairs lists the ports with what each is for.
func (p *Ports) pairs() []portPair {
	return []portPair{
		{[2]string{"POP fra", "POP iad"}, &p.POP},
		{[2]string{"the admin API of POP fra", "the admin API of POP iad"}, &p.Admin},
		{[2]string{"region eu", "region us"}, &p.Region},
		{[2]string{"the operator endpoints of region eu", "the operator endpoints of region us"}, &p.Operator},
		{[2]string{"NATS", "the monitoring of NATS"}, &p.NATS},
	}
}

// check finds every port that cannot be had, before anything is started: each
// with what it is for and, where that can be known, who has it.
func (p *Ports) check() error {
	var faults []error
	for _, pair := range p.pairs() {
		for i, port := range pair.ports {
			if port < 1 || port > 65535 {
				faults = append(faults, fmt.Errorf("port %d, for %s, is outside 1 to 65535", port, pair.names[i]))
				continue
			}
			if err := tryListen(port); err != nil {
				faults = append(faults, fmt.Errorf("port %d, for %s, is not free: %s", port, pair.names[i], why(port, err)))
			}
		}
	}
	if faults == nil {
		return nil
	}
	return fmt.Errorf("%w\nend what is there, or shift every port of the demo, for example: %s=1000 make demo", errors.Join(faults...), EnvPortBase)
}

func why(port int, err error) string {
	if owner := portOwner(port); owner != "" {
		return owner + " has it"
	}
	return err.Error()
}

func tryListen(port int) error {
	l, err := net.Listen("tcp", address(port))
	if err != nil {
		return err
	}
	return l.Close()
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
