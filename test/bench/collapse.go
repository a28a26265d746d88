package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// collapseBench shows what clients wait who ask for one cold address at once.
type collapseBench struct {
	Caddy   string        `default:"bin/caddy" help:"Caddy with the edge's modules."`
	Clients int           `default:"500" help:"Clients that ask at once."`
	Rounds  int           `default:"5" help:"Rounds; the medians are printed."`
	Header  time.Duration `default:"200ms" help:"How long the origin takes to its header."`
}

// arrival is what one client saw.
type arrival struct {
	first time.Duration // the body's first byte, since its own request
	after time.Duration // and since the origin sent its header
	led   bool
}

// Run prints the table.
func (b *collapseBench) Run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "gatehouse-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if _, err := writeKeys(dir); err != nil {
		return err
	}
	var asked atomic.Int64
	var answered atomic.Pointer[time.Time]
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	origin := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		time.Sleep(b.Header)
		w.Header().Set("Cache-Control", "max-age=60")
		controller := http.NewResponseController(w)
		now := time.Now()
		answered.Store(&now)
		for range 16 { // 64 KiB in 0.8 s
			_, _ = w.Write(make([]byte, 4<<10))
			_ = controller.Flush()
			time.Sleep(50 * time.Millisecond)
		}
	})}
	go func() { _ = origin.Serve(l) }()
	defer origin.Close()

	admin, port := freePort(), freePort()
	caddy, err := runCaddy(ctx, b.Caddy, dir, options(dir, "127.0.0.1:1", admin)+fmt.Sprintf(
		"http://127.0.0.1:%d {\n\tedge_guard\n\tedge_cache\n\treverse_proxy %s\n}\n", port, l.Addr()), port)
	if err != nil {
		return err
	}
	defer stop(caddy)

	var rows [8][]float64
	for round := range b.Rounds {
		asked.Store(0)
		all, err := b.round(ctx, port, fmt.Sprintf("/cold/%d", round), &answered)
		if err != nil {
			return err
		}
		leader := slices.IndexFunc(all, func(a arrival) bool { return a.led })
		if leader < 0 {
			return fmt.Errorf("nobody led in round %d", round+1)
		}
		led := all[leader]
		all = slices.Delete(all, leader, leader+1)
		of := func(get func(arrival) time.Duration, share float64) float64 {
			values := make([]float64, len(all))
			for i, a := range all {
				values[i] = float64(get(a).Microseconds()) / 1000
			}
			slices.Sort(values)
			return values[int(share*float64(len(values)-1))]
		}
		first := func(a arrival) time.Duration { return a.first }
		after := func(a arrival) time.Duration { return a.after }
		ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
		for i, value := range []float64{
			float64(asked.Load()), ms(led.first), of(first, 0.5), of(first, 0.99), of(first, 1) / ms(led.first), ms(led.after), of(after, 0.5), of(after, 0.99),
		} {
			rows[i] = append(rows[i], value)
		}
	}
	fmt.Printf("%d clients, one cold address, an origin that takes %v to its header; medians of %d rounds:\n\n", b.Clients, b.Header, b.Rounds)
	fmt.Println("| | the one who led | followers p50 | p99 | longest / the one who led |\n| --- | --- | --- | --- | --- |")
	fmt.Printf("| first byte, ms since the own request | %.1f | %.1f | %.1f | %.2f |\n", median(rows[1]), median(rows[2]), median(rows[3]), median(rows[4]))
	fmt.Printf("| first byte, ms since the origin's header | %.1f | %.1f | %.1f | |\n\n", median(rows[5]), median(rows[6]), median(rows[7]))
	fmt.Printf("Requests to the origin: %.0f\n", median(rows[0]))
	return nil
}

// round lets all clients ask at once, on connections that stand.
func (b *collapseBench) round(ctx context.Context, port int, path string, answered *atomic.Pointer[time.Time]) ([]arrival, error) {
	all, failed := make([]arrival, b.Clients), make([]error, b.Clients)
	ready, begin := sync.WaitGroup{}, make(chan struct{})
	var done sync.WaitGroup
	ready.Add(b.Clients)
	for i := range b.Clients {
		done.Go(func() {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
			ready.Done()
			if err != nil {
				failed[i] = err
				return
			}
			defer conn.Close()
			<-begin
			asked := time.Now()
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", path)
			in := bufio.NewReader(conn)
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				failed[i] = err
				return
			}
			if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
				failed[i] = err
				return
			}
			now := time.Now()
			all[i] = arrival{first: now.Sub(asked), after: now.Sub(*answered.Load()), led: !strings.Contains(resp.Header.Get("Cache-Status"), "collapsed")}
			if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != 64<<10-1 {
				failed[i] = fmt.Errorf("%d bytes: %w", n, err)
			}
		})
	}
	ready.Wait()
	close(begin)
	done.Wait()
	for _, err := range failed {
		if err != nil {
			return nil, err
		}
	}
	return all, ctx.Err()
}
