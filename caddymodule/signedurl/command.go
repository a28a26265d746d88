package signedurl

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff/signedurl"
)

const (
	// defaultLife is how long a link holds that is made by hand.
	defaultLife = time.Hour
	maxLife     = 10 * 365 * 24 * time.Hour
)

// order is what the command was told.
type order struct {
	keyFile, keyEnv              string
	life                         time.Duration
	until, notBefore             string
	prefix, method, host, tenant string
	network                      string
	free                         []string
	json                         bool
}

// Command is "caddy edge sign".
func Command() *cobra.Command {
	o := new(order)
	c := &cobra.Command{
		Use:   "sign (--key-file PATH | --key-env NAME) [flags] ADDRESS",
		Short: "Signs a link for edge_signed",
		Long: `Signs a link that edge_signed believes, with the first key of a key file.

ADDRESS is a path with or without a query, or a whole address, and is printed
with the signature. Nothing is asked or changed: the command works wherever the
key is. A file holds one key on each line, as ID:SECRET. To make one:

	(umask 077; echo "k1:$(openssl rand -base64 32)" > links.keys)`,
		Example: `	caddy edge sign --key-file links.keys /downloads/report.pdf
	caddy edge sign --key-file links.keys --life 10m --tenant acme https://files.example.com/downloads/report.pdf
	caddy edge sign --key-file links.keys --prefix /films/42/ /films/42/index.m3u8`,
		Args:          cobra.ExactArgs(1),
		SilenceUsage:  true,
		SilenceErrors: false,
		RunE:          func(c *cobra.Command, args []string) error { return o.run(c, args[0], time.Now()) },
	}
	f := c.Flags()
	f.StringVar(&o.keyFile, "key-file", "", "file of keys; the first signs")
	f.StringVar(&o.keyEnv, "key-env", "", "environment variable that holds keys, in place of a file")
	f.DurationVar(&o.life, "life", defaultLife, "how long the link holds")
	f.StringVar(&o.until, "until", "", "when the link ends, as 2027-01-31T12:00:00Z, in place of --life")
	f.StringVar(&o.notBefore, "not-before", "", "when the link begins to hold, as 2027-01-30T12:00:00Z (default: at once)")
	f.StringVar(&o.prefix, "prefix", "", "a directory that ADDRESS is in; the parameters then open everything in it")
	f.StringVar(&o.method, "method", "", "the one method that the link is for (default: GET and HEAD)")
	f.StringVar(&o.host, "host", "", "the one host that the link is for (default: any)")
	f.StringVar(&o.tenant, "tenant", "", "the tenant whose session has to come with the link (default: none has to)")
	f.StringVar(&o.network, "network", "", "the network that the client has to be in, as 192.0.2.0/24 (default: any)")
	f.StringSliceVar(&o.free, "free", nil, "names of parameters that may be added or changed")
	f.BoolVar(&o.json, "json", false, "print an object with link, expires and key")
	c.MarkFlagsMutuallyExclusive("life", "until")
	c.MarkFlagsMutuallyExclusive("key-file", "key-env")
	c.MarkFlagsOneRequired("key-file", "key-env")
	return c
}

func (o *order) run(c *cobra.Command, address string, now time.Time) error {
	text, err := edge.Secret(o.keyFile, o.keyEnv)
	if err != nil {
		return err
	}
	keys, err := signedurl.ParseKeys(text)
	if err != nil {
		return fmt.Errorf("%s%s: %w", o.keyFile, o.keyEnv, err)
	}
	site, target, err := splitAddress(address)
	if err != nil {
		return err
	}
	link, err := o.link(target, now)
	if err != nil {
		return err
	}
	signed, err := keys.Sign(link)
	if err != nil {
		return err
	}
	if !o.json {
		_, err = fmt.Fprintln(c.OutOrStdout(), site+signed)
		return err
	}
	out, err := json.Marshal(struct {
		Link    string `json:"link"`
		Expires string `json:"expires"`
		Key     string `json:"key"`
	}{site + signed, link.Expires.UTC().Format(time.RFC3339), keys.IDs()[0]})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%s\n", out)
	return err
}

func (o *order) link(target string, now time.Time) (signedurl.Link, error) {
	l := signedurl.Link{Target: target, Prefix: o.prefix, Free: o.free, Method: o.method, Host: o.host, Tenant: o.tenant}
	var err error
	if o.network != "" {
		if l.Network, err = netip.ParsePrefix(o.network); err != nil {
			return l, fmt.Errorf("--network %q is not a network such as 192.0.2.0/24", o.network)
		}
	}
	if o.notBefore != "" {
		if l.NotBefore, err = time.Parse(time.RFC3339, o.notBefore); err != nil {
			return l, fmt.Errorf("--not-before %q is not a time such as 2027-01-30T12:00:00Z", o.notBefore)
		}
	}
	if o.until == "" {
		if o.life < time.Second || o.life > maxLife {
			return l, fmt.Errorf("--life %s: it is from 1s to ten years", o.life)
		}
		l.Expires = now.Add(o.life)
		return l, nil
	}
	if l.Expires, err = time.Parse(time.RFC3339, o.until); err != nil {
		return l, fmt.Errorf("--until %q is not a time such as 2027-01-31T12:00:00Z", o.until)
	}
	if !l.Expires.After(now) {
		return l, fmt.Errorf("--until %s is over already", o.until)
	}
	return l, nil
}

// splitAddress takes scheme and host off an address, if it has them.
func splitAddress(address string) (site, target string, err error) {
	if len(address) > 0 && address[0] == '/' {
		return "", address, nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", "", errors.New("the address is neither a path such as /downloads/report.pdf nor one such as https://files.example.com/downloads/report.pdf")
	}
	site = u.Scheme + "://" + u.Host
	if len(address) < len(site) {
		return "", "", errors.New("the address is not written in full")
	}
	target = address[len(site):]
	return site, target, nil
}
