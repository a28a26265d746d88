package edgetest

import (
	"context"
	"net"
	"net/http/httptest"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Port is a port of 127.0.0.1 that is the test's own until it ends. A connection to
// it is refused unless somebody has asked to [Port.Listen]. A port that a server has
// left is different: the system gives it to whoever asks next for any, which is some
// other test's server soon enough.
type Port struct{ Address string }

// NewPort takes a port that nobody has.
func NewPort(t testing.TB) Port {
	t.Helper()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(socket) })
	unix.CloseOnExec(socket)
	if err := unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(socket, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	bound, err := unix.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	return Port{net.JoinHostPort("127.0.0.1", strconv.Itoa(bound.(*unix.SockaddrInet4).Port))}
}

// Nobody is an address of the test's own at which nobody listens.
func Nobody(t testing.TB) string {
	t.Helper()
	return NewPort(t).Address
}

// Listen listens at the port, beside the socket that keeps it.
func (p Port) Listen(t testing.TB) net.Listener {
	t.Helper()
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var fault error
		err := c.Control(func(fd uintptr) {
			fault = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		})
		if err != nil {
			return err
		}
		return fault
	}}
	l, err := config.Listen(context.Background(), "tcp", p.Address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Move has a server that is not started yet listen at the port.
func (p Port) Move(t testing.TB, s *httptest.Server) {
	t.Helper()
	if err := s.Listener.Close(); err != nil {
		t.Fatal(err)
	}
	s.Listener = p.Listen(t)
}
