// Command bench measures Gatehouse against what stands beside it, on loopback.
// Rows take turns within a round, and medians over the rounds are printed:
// on a shared machine only what ran side by side can be compared.
//
//	go run ./test/bench edge       the edge's chain against a bare reverse_proxy
//	go run ./test/bench cache      what answers from memory, beside nginx and Varnish
//	go run ./test/bench collapse   what clients wait who ask for one cold address at once
//	go run ./test/bench fill       what a cache that fills takes of memory and of time
//	go run ./test/bench orders     orders per second, through a POP and direct
//	go run ./test/bench revoke     how long a session, or a page, lives on after its end
//	go run ./test/bench tokens     what a million distinct tokens do to a POP's memory
//	go run ./test/bench addresses  what a million client addresses do to it
//	go run ./test/bench reloads    fifty reloads of the configuration under load
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() {
	var cli struct {
		Edge      edgeBench      `cmd:"" help:"The edge's chain against a bare reverse_proxy, by wrk."`
		Cache     cacheBench     `cmd:"" help:"What answers from memory, beside nginx and Varnish, by wrk."`
		Collapse  collapseBench  `cmd:"" help:"What clients wait who ask for one cold address at once."`
		Fill      fillBench      `cmd:"" help:"What a cache that fills takes of memory and of time."`
		Orders    ordersBench    `cmd:"" help:"Orders per second and their latency, through a POP and direct."`
		Revoke    revokeBench    `cmd:"" help:"How long a session lives on at a POP after its log-out, and a page after its change."`
		Tokens    tokensBench    `cmd:"" help:"What a flood of distinct tokens does to a POP's memory."`
		Addresses addressesBench `cmd:"" help:"What a flood of client addresses does to a POP's memory."`
		Reloads   reloadsBench   `cmd:"" help:"What reloads of the configuration cost while clients ask."`
		Origin    originCmd      `cmd:"" hidden:"" help:"The trivial origin behind both."`
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	parsed := kong.Parse(&cli, kong.Name("bench"), kong.BindTo(ctx, (*context.Context)(nil)))
	if err := parsed.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}
