package postgres

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// idlePing is after how long even a quiet connection is asked whether it still
// lives: a firewall may have forgotten it without a word.
const idlePing = time.Minute

// shouldPing decides whether a connection is pinged before it is used. pgx's own
// rule, idle for a second, costs every request of a quiet service a round trip.
// What a ping finds almost always is a server that was restarted, and the kernel
// knows that already: an idle connection has nothing to read unless the server
// has said farewell. So a look at the socket, one system call and no round trip,
// replaces the ping, and only a socket with something to tell is pinged.
func shouldPing(_ context.Context, p pgxpool.ShouldPingParams) bool {
	return p.IdleDuration > idlePing || !quiet(p.Conn.PgConn().Conn(), p.IdleDuration)
}

// quiet reports whether conn is open with nothing to read. Where the socket
// cannot be looked at, pgx's rule holds.
func quiet(conn net.Conn, idle time.Duration) bool {
	if wrapped, ok := conn.(interface{ NetConn() net.Conn }); ok { // *tls.Conn
		conn = wrapped.NetConn()
	}
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return idle < time.Second
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	open := false
	// Not raw.Read, which waits for whoever is reading: after a slow write pgx
	// leaves a goroutine in Read until the server speaks next.
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		open = errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EWOULDBLOCK)
	})
	return err == nil && open
}
