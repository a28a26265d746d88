package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff/jwks"
)

// tokenVariable holds the operator's token where no file does.
const tokenVariable = "GATEHOUSE_OPERATOR_TOKEN"

// regionAsked is what commands are told besides that have --everywhere.
type regionAsked struct {
	everywhere         bool
	url, tokenFile, of string
}

// told is what a region answers to POST /revocations.
type told struct {
	Region string    `json:"region"`
	Ended  Ended     `json:"ended"`
	At     time.Time `json:"at"`
	Scope  string    `json:"scope"`
}

func (to *regionAsked) run(c *cobra.Command, a *Asking, e *Ended) error {
	switch {
	case to.url == "":
		return errors.New("--everywhere needs --region: the operator's address of the region where the tenant is at home")
	case e.Tenant == "" && to.of == "":
		return errors.New("--everywhere needs --of with --session and --user: the tenant whose it is")
	case e.Tenant != "" && to.of != "":
		return errors.New("--of goes with --session and --user")
	}
	in := *e
	if in.Tenant == "" {
		in.Tenant = to.of
	}
	token, err := to.token()
	if err != nil {
		return err
	}
	var got told
	if err := to.ask(c.Context(), token, "/revocations", &in, &got); err != nil {
		return err
	}
	return a.Print(c, got, func(w io.Writer) { showTold(w, got) })
}

func (to *regionAsked) token() (string, error) {
	var text string
	if to.tokenFile == "" {
		text = os.Getenv(tokenVariable)
		if file, is := strings.CutPrefix(text, "file:"); is {
			to.tokenFile = file
		}
	}
	if to.tokenFile != "" {
		data, err := edge.Secret(to.tokenFile, "")
		if err != nil {
			return "", err
		}
		text = string(data)
	}
	text = strings.TrimRight(text, "\r\n")
	if text == "" {
		return "", fmt.Errorf("the region asks for its operator's token: give --token-file, or set %s", tokenVariable)
	}
	return text, nil
}

// ask sends in to path of the region's operator address, and reads the answer into
// out. It sends the token over https, or to this machine: whoever reads it can sign
// everybody out.
func (to *regionAsked) ask(ctx context.Context, token, path string, in, out any) error {
	address := strings.TrimSuffix(to.url, "/") + path
	if err := jwks.CheckURL(address); err != nil {
		return fmt.Errorf("--region %q is no https address, nor http on this machine, to which a token could be sent", to.url)
	}
	document, err := json.Marshal(in)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(document))
	if err != nil {
		return fmt.Errorf("--region %q is no address such as http://127.0.0.1:9191", to.url)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+token)
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true}, // no proxy: the token is the region's alone
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("no region answers at %s: %s; nothing is known to have been done", to.url, reason(err))
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("the answer of the region at %s broke off: what was asked may have been done", to.url)
	}
	if res.StatusCode != http.StatusOK {
		return regionFault(to.url, res.StatusCode, body)
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("what answers at %s is no region of this version", to.url)
	}
	return nil
}

// regionFault is a region's problem, in one sentence.
func regionFault(at string, status int, body []byte) error {
	var p struct {
		Title  string `json:"title"`
		Detail string `json:"detail"`
		Errors []struct {
			Field   string `json:"field"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(body, &p) != nil || p.Title == "" {
		return fmt.Errorf("what answers at %s is no operator's address of a region: it answered %d", at, status)
	}
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	for _, fault := range p.Errors {
		text += "; " + fault.Field + " " + fault.Message
	}
	return fmt.Errorf("the region at %s refuses (%d): %s", at, status, plain(text))
}

func showTold(w io.Writer, got told) {
	e := got.Ended
	if e.Session != "" || e.Subject != "" {
		e.Tenant = ""
	}
	if got.Scope != "everywhere" {
		fmt.Fprintf(w, "Region %s has ended %s. It has no feed: no POP was told.\n", plain(got.Region), e.whom())
		return
	}
	fmt.Fprintf(w, "Region %s has ended %s, and tells every POP.\n", plain(got.Region), e.whom())
}
