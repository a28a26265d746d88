// Package command is "caddy edge", under which the edge's commands are.
package command

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

// Register adds "caddy edge" with a command for each of children to Caddy. It is
// called once, while the program begins.
func Register(children ...func() *cobra.Command) {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "edge",
		Usage: "<command>",
		Short: "Works with this point of presence",
		CobraFunc: func(edge *cobra.Command) {
			for _, child := range children {
				edge.AddCommand(child())
			}
		},
	})
}
