package postgres

import (
	"net"
	"testing"
	"time"
)

// pair is the two ends of a connection.
func pair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close() })
	far, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	return near, far
}

// pgx may have left a goroutine in Read: the look at the socket must not wait
// for it, or the request hangs for good.
func TestQuiet_doesNotWaitForAReader(t *testing.T) {
	t.Parallel()
	near, far := pair(t)
	reading := make(chan struct{})
	go func() {
		close(reading)
		_, _ = near.Read(make([]byte, 1))
	}()
	<-reading
	answered := make(chan bool)
	go func() {
		open := true
		for range 1000 { // the reader gets there sooner or later
			open = open && quiet(near, 0)
		}
		answered <- open
	}()
	select {
	case open := <-answered:
		if !open {
			t.Error("an open connection with nothing to read is not quiet")
		}
	case <-time.After(10 * time.Second):
		_, _ = far.Write([]byte("x")) // let them go
		t.Fatal("the look at the socket waits for the reader")
	}
}
