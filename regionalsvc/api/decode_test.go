package api

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/handoff/problem"
)

// order has the form of the body that matters most.
type order struct {
	CustomerID string   `json:"customerId"`
	TotalCents int64    `json:"totalCents"`
	Small      int8     `json:"small,omitzero"`
	Paid       bool     `json:"paid,omitzero"`
	Ratio      float64  `json:"ratio,omitzero"`
	Lines      []line   `json:"lines,omitempty"`
	Note       *string  `json:"note,omitzero"`
	Tags       []string `json:"tags,omitempty"`
}

type line struct {
	Name string `json:"name"`
}

func (o *order) Validate() []problem.FieldError {
	if o.CustomerID == "" {
		return []problem.FieldError{{Field: "/customerId", Message: "is required"}}
	}
	return nil
}

func post(body, contentType string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/api/orders", strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return r
}

// strictness is what no body may get past. Each row says the status, the
// problem, the field and a part of the message.
var strictness = []struct {
	name, body, contentType string
	status                  int
	problem, field, message string
}{
	{"unknown member", `{"customerId":"c","totalCents":1,"discount":5}`, "", 400, problem.InvalidBody, "/discount", "not known"},
	{"unknown member, nested", `{"customerId":"c","lines":[{"name":"a"},{"nome":"b"}]}`, "", 400, problem.InvalidBody, "/lines/1/nome", "not known"},
	{"duplicate member", `{"customerId":"c","totalCents":1,"totalCents":2}`, "", 400, problem.InvalidBody, "/totalCents", "stands twice"},
	{"duplicate member, nested", `{"customerId":"c","lines":[{"name":"a","name":"b"}]}`, "", 400, problem.InvalidBody, "/lines/0/name", "stands twice"},
	{"duplicate member, escaped", `{"customerId":"c","totalCents":1,"total\u0043ents":2}`, "", 400, problem.InvalidBody, "/totalCents", "stands twice"},
	{"wrong case", `{"customerID":"c","totalCents":1}`, "", 400, problem.InvalidBody, "/customerID", "case-sensitive"},
	{"trailing document", `{"customerId":"c"}{"customerId":"d"}`, "", 400, problem.InvalidBody, "", "not JSON"},
	{"trailing bytes", `{"customerId":"c"} x`, "", 400, problem.InvalidBody, "", "not JSON"},
	{"string for a number", `{"customerId":"c","totalCents":"1"}`, "", 400, problem.InvalidBody, "/totalCents", "whole number"},
	{"number for a string", `{"customerId":7,"totalCents":1}`, "", 400, problem.InvalidBody, "/customerId", "string"},
	{"object for a string", `{"customerId":{},"totalCents":1}`, "", 400, problem.InvalidBody, "/customerId", "string"},
	{"string for a truth value", `{"customerId":"c","paid":"yes"}`, "", 400, problem.InvalidBody, "/paid", "true or false"},
	{"string for a fraction", `{"customerId":"c","ratio":"0.5"}`, "", 400, problem.InvalidBody, "/ratio", "a number"},
	{"object for an array", `{"customerId":"c","lines":{}}`, "", 400, problem.InvalidBody, "/lines", "an array"},
	{"string for an object", `{"customerId":"c","lines":["a"]}`, "", 400, problem.InvalidBody, "/lines/0", "an object"},
	{"array for the body", `[]`, "", 400, problem.InvalidBody, "", "an object"},
	{"overflow", `{"customerId":"c","totalCents":9223372036854775808}`, "", 400, problem.InvalidBody, "/totalCents", "between -9223372036854775808"},
	{"overflow of a small one", `{"customerId":"c","small":128}`, "", 400, problem.InvalidBody, "/small", "range of int8"},
	{"overflow of a fraction", `{"customerId":"c","ratio":1e999}`, "", 400, problem.InvalidBody, "/ratio", "a number"},
	{"fraction for a whole number", `{"customerId":"c","totalCents":1.5}`, "", 400, problem.InvalidBody, "/totalCents", "whole number"},
	{"whole number as a fraction", `{"customerId":"c","totalCents":1.0}`, "", 400, problem.InvalidBody, "/totalCents", "whole number"},
	{"whole number with an exponent", `{"customerId":"c","totalCents":1e3}`, "", 400, problem.InvalidBody, "/totalCents", "whole number"},
	{"invalid UTF-8", "{\"customerId\":\"\xff\"}", "", 400, problem.InvalidBody, "/customerId", "UTF-8"},
	{"invalid UTF-8 in a name", "{\"\xff\":1}", "", 400, problem.InvalidBody, "", "UTF-8"},
	{"lone surrogate", `{"customerId":"\ud800"}`, "", 400, problem.InvalidBody, "/customerId", "surrogate"},
	{"deep nesting", strings.Repeat(`[`, 20_000), "", 400, problem.InvalidBody, "", "must be an object"},
	{"deep nesting of a member", `{"customerId":` + strings.Repeat(`[`, 20_000) + `}`, "", 400, problem.InvalidBody, "/customerId" + strings.Repeat("/0", 122), "max depth"},
	{"long name", `{"` + strings.Repeat("a", 300) + `":1}`, "", 400, problem.InvalidBody, "", "not known"},
	{"cut off", `{"customerId":"c"`, "", 400, problem.InvalidBody, "", "breaks off"},
	{"empty", ``, "", 400, problem.InvalidBody, "", "empty"},
	{"only spaces", `  `, "", 400, problem.InvalidBody, "", ""},
	{"null", `null`, "", 400, problem.InvalidBody, "/customerId", "is required"},
	{"missing member", `{"totalCents":1}`, "", 400, problem.InvalidBody, "/customerId", "is required"},
	{"null member", `{"customerId":null,"totalCents":1}`, "", 400, problem.InvalidBody, "/customerId", "is required"},
	{"comment", `{"customerId":"c"/**/}`, "", 400, problem.InvalidBody, "", "not JSON"},
	{"NaN", `{"customerId":"c","ratio":NaN}`, "", 400, problem.InvalidBody, "/ratio", "not JSON"},
	{"byte order mark", "\ufeff" + `{"customerId":"c"}`, "", 400, problem.InvalidBody, "", "not JSON"},
	{"over 1 MiB", `{"customerId":"` + strings.Repeat("a", MaxBody) + `"}`, "", 413, problem.BodyTooLarge, "", ""},
	{"no content type", `{"customerId":"c"}`, "none", 415, problem.UnsupportedMediaType, "Content-Type", "must be application/json"},
	{"text", `{"customerId":"c"}`, "text/plain", 415, problem.UnsupportedMediaType, "Content-Type", "must be application/json"},
	{"form", `{"customerId":"c"}`, "application/x-www-form-urlencoded", 415, problem.UnsupportedMediaType, "Content-Type", "must be application/json"},
	{"another JSON", `{"customerId":"c"}`, "application/merge-patch+json", 415, problem.UnsupportedMediaType, "Content-Type", "must be application/json"},
	{"another charset", `{"customerId":"c"}`, "application/json; charset=utf-16", 415, problem.UnsupportedMediaType, "Content-Type", "UTF-8"},
	{"broken content type", `{"customerId":"c"}`, "application/json; charset", 415, problem.UnsupportedMediaType, "Content-Type", "must be application/json"},
}

func TestDecode_refuses(t *testing.T) {
	t.Parallel()
	for _, row := range strictness {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			contentType := row.contentType
			switch contentType {
			case "":
				contentType = "application/json"
			case "none":
				contentType = ""
			}
			got, err := Decode[order](post(row.body, contentType))
			var p *problem.Problem
			if !errors.As(err, &p) {
				t.Fatalf("read as %+v, %v", got, err)
			}
			if p.Status != row.status || p.Name() != row.problem {
				t.Errorf("%d %s, want %d %s", p.Status, p.Name(), row.status, row.problem)
			}
			if row.status == http.StatusRequestEntityTooLarge {
				return
			}
			if len(p.Errors) != 1 || p.Errors[0].Field != row.field || !strings.Contains(p.Errors[0].Message, row.message) {
				t.Errorf("errors %+v, want field %q and %q in the message", p.Errors, row.field, row.message)
			}
		})
	}
}

func TestDecode_reads(t *testing.T) {
	t.Parallel()
	for _, contentType := range []string{"application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"} {
		got, err := Decode[order](post("\n"+`{"totalCents":9007199254740993,"customerId":"c","lines":[{"name":"é😀"}]}`+"\n", contentType))
		if err != nil {
			t.Fatal(err)
		}
		if got.TotalCents != 1<<53+1 || got.Lines[0].Name != "é😀" {
			t.Errorf("read as %+v", got)
		}
	}
	full := `{"customerId":"` + strings.Repeat("a", MaxBody-17) + `"}`
	if len(full) != MaxBody {
		t.Fatalf("%d bytes", len(full))
	}
	if _, err := Decode[order](post(full, "application/json")); err != nil {
		t.Errorf("a body of just 1 MiB: %v", err)
	}
}

func TestDecode_refusesEncodedBody(t *testing.T) {
	t.Parallel()
	r := post(`{"customerId":"c"}`, "application/json")
	r.Header.Set("Content-Encoding", "gzip")
	_, err := Decode[order](r)
	var p *problem.Problem
	if !errors.As(err, &p) || p.Status != http.StatusUnsupportedMediaType {
		t.Errorf("%v", err)
	}
}

func TestDecode_twoContentTypesAreNone(t *testing.T) {
	t.Parallel()
	r := post(`{"customerId":"c"}`, "application/json")
	r.Header.Add("Content-Type", "text/plain")
	_, err := Decode[order](r)
	var p *problem.Problem
	if !errors.As(err, &p) || p.Status != http.StatusUnsupportedMediaType {
		t.Errorf("%v", err)
	}
}

func TestDecode_brokenOffBodyIsTheClients(t *testing.T) {
	t.Parallel()
	r := post("", "application/json")
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"customerId"`), failing{}))
	_, err := Decode[order](r)
	var p *problem.Problem
	if !errors.As(err, &p) || p.Status != http.StatusBadRequest || p.Name() != problem.MalformedRequest {
		t.Errorf("%v", err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestLimit(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]int{
		"": DefaultLimit, "?limit=": DefaultLimit, "?limit=1": 1, "?limit=100": 100, "?cursor=x&limit=7": 7,
		"?limit=0": 0, "?limit=101": 0, "?limit=-1": 0, "?limit=ten": 0, "?limit=1.0": 0, "?limit=+1": 0, "?limit=%2B1": 0, "?limit=01": 0,
		"?limit=1&limit=2": 0, "?limit=1;cursor=x": 0, "?limit=%zz": 0, "?limit=99999999999999999999": 0,
	} {
		got, err := Limit(httptest.NewRequest(http.MethodGet, "/api/orders"+query, nil))
		var p *problem.Problem
		switch {
		case want != 0 && (err != nil || got != want):
			t.Errorf("%q: %d, %v, want %d", query, got, err, want)
		case want == 0 && (!errors.As(err, &p) || p.Status != http.StatusBadRequest || p.Name() != problem.InvalidParameter):
			t.Errorf("%q: %d, %v, want a problem", query, got, err)
		}
	}
}

// FuzzParse looks for a body that is read although it is not what an order is.
func FuzzParse(f *testing.F) {
	for _, row := range strictness {
		if len(row.body) < 1<<10 {
			f.Add(row.body)
		}
	}
	f.Add(`{"customerId":"c","totalCents":1299}`)
	f.Fuzz(func(t *testing.T, body string) {
		got, err := Parse[order]([]byte(body))
		var p *problem.Problem
		switch {
		case err == nil && got.CustomerID == "":
			t.Errorf("%q was read as %+v", body, got)
		case err != nil && (!errors.As(err, &p) || p.Status != http.StatusBadRequest || len(p.Errors) == 0):
			t.Errorf("%q: %v is no problem that names a field", body, err)
		}
	})
}
