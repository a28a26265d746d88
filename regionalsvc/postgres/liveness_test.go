package postgres

import (
	"net"
	"testing"
	"time"
)

// pair is a connection and its other end.
func pair(t *testing.T) (here, there net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if here, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if there, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { here.Close(); there.Close() })
	return here, there
}

// until waits for the condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

func TestQuiet_seesFarewellAndEnd(t *testing.T) {
	t.Parallel()
	here, there := pair(t)
	if !quiet(here, time.Hour) {
		t.Error("an open connection with nothing to read is not quiet")
	}
	if _, err := there.Write([]byte("farewell")); err != nil {
		t.Fatal(err)
	}
	until(t, "what was said is not seen", func() bool { return !quiet(here, time.Hour) })

	here, there = pair(t)
	there.Close()
	until(t, "the end is not seen", func() bool { return !quiet(here, time.Hour) })
	here.Close()
	if quiet(here, 0) {
		t.Error("a connection that we closed is quiet")
	}
}

// pgx reads in the background after a slow write, and goes on until something
// comes. The look at the socket must not queue behind that reader.
func TestQuiet_doesNotWaitForAReader(t *testing.T) {
	t.Parallel()
	here, there := pair(t)
	reading := make(chan struct{}, 2)
	go func() {
		var b [1]byte
		for {
			reading <- struct{}{}
			if _, err := here.Read(b[:]); err != nil {
				return
			}
		}
	}()
	<-reading
	if _, err := there.Write([]byte("x")); err != nil { // so that the reader has certainly been in Read
		t.Fatal(err)
	}
	<-reading
	looked := make(chan bool)
	go func() {
		for range 20_000 { // long enough for the reader to be back in Read
			quiet(here, time.Hour)
		}
		looked <- quiet(here, time.Hour)
	}()
	select {
	case open := <-looked:
		if !open {
			t.Error("not quiet")
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the look waits for the reader")
	}
}

func TestQuiet_whatCannotBeLookedAtFollowsPgx(t *testing.T) {
	t.Parallel()
	here, there := net.Pipe()
	defer there.Close()
	defer here.Close()
	if !quiet(here, 0) || quiet(here, time.Second) {
		t.Error("not pgx's rule")
	}
}
