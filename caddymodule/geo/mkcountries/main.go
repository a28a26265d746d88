// Command mkcountries writes a small country database in the MaxMind DB format
// from a table of networks, for tests and for trying edge_geo out:
//
//	go run ./caddymodule/geo/mkcountries caddymodule/geo/testdata/countries.txt countries.mmdb
//
// A line of the table holds a network, a country (ISO 3166-1 alpha-2) and a
// continent. Empty lines and those that begin with "#" are passed over. The same
// table gives the same bytes.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

// built is the time that the database says it was made, so that making it again
// gives the same bytes: 2026-01-01.
const built = 1767225600

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "mkcountries:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: mkcountries TABLE DATABASE")
	}
	table, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer table.Close()
	var database bytes.Buffer
	if err := write(&database, table); err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	return os.WriteFile(args[1], database.Bytes(), 0o644)
}

// write makes the database of a table.
func write(w io.Writer, table io.Reader) error {
	tree, err := mmdbwriter.New(mmdbwriter.Options{
		DatabaseType: "Gatehouse-Country", RecordSize: 24, BuildEpoch: built,
		Description:             map[string]string{"en": "Documentation networks, each in a country"},
		Languages:               []string{"en"},
		IncludeReservedNetworks: true, // that is what documentation networks are
	})
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(table)
	for number := 1; lines.Scan(); number++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) != 3 {
			return fmt.Errorf("line %d: it is a network, a country and a continent, such as: 192.0.2.0/24 DE EU", number)
		}
		_, network, err := net.ParseCIDR(fields[0])
		if err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
		err = tree.Insert(network, mmdbtype.Map{
			"country":   mmdbtype.Map{"iso_code": mmdbtype.String(fields[1])},
			"continent": mmdbtype.Map{"code": mmdbtype.String(fields[2])},
		})
		if err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	_, err = tree.WriteTo(w)
	return err
}
