// Command regionalsvc is a region: the service next to PostgreSQL that owns every
// transaction.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/gatehouse-edge/gatehouse/regionalsvc/demo"
)

// program is the command line. The tags are the one table of flags, variables,
// defaults and help; docs/REGION.md is made from it.
type program struct {
	Serve   Serve        `cmd:"" help:"Answer what POPs send."`
	Migrate Migrate      `cmd:"" help:"Bring the database's schema forward. Safe to run by many at once."`
	Demo    demo.Command `cmd:"" help:"Run two POPs and two regions on this machine."`
}

func main() {
	// The first signal ends in good order. Then signals do again what they
	// always do, so that a second one ends at once.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main with its surroundings given. It returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	exit := -1
	parser, err := newParser(stdout, stderr, func(status int) { exit = status })
	if err != nil {
		fmt.Fprintf(stderr, "regionalsvc: %v\n", err)
		return 2
	}
	command, err := parser.Parse(args)
	switch {
	case exit >= 0: // --help
		return exit
	case err != nil:
		fmt.Fprintf(stderr, "regionalsvc: %v\n", err)
		return 2
	}
	command.BindTo(ctx, (*context.Context)(nil))
	command.BindTo(stdout, (*io.Writer)(nil))
	if err := command.Run(); err != nil {
		fmt.Fprintf(stderr, "regionalsvc %s: %v\n", command.Command(), err)
		return 1
	}
	return 0
}

func newParser(stdout, stderr io.Writer, exit func(int)) (*kong.Kong, error) {
	return kong.New(new(program),
		kong.Name("regionalsvc"),
		kong.Description("A Gatehouse region: the service next to PostgreSQL."),
		kong.Writers(stdout, stderr), kong.Exit(exit),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true}))
}
