package flags

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

// Path is where all flags are evaluated, and below which each one is
// (OpenFeature Remote Evaluation Protocol, version 0.3.0).
const Path = "/ofrep/v1/evaluate/flags"

// maxBody bounds the evaluation context that a client sends.
const maxBody = 16 << 10

// Error codes of OFREP.
const (
	codeParse    = "PARSE_ERROR"
	codeContext  = "INVALID_CONTEXT"
	codeNotFound = "FLAG_NOT_FOUND"
	codeGeneral  = "GENERAL"
)

// failure is an error in OFREP's form.
type failure struct {
	status  int
	Key     string `json:"key,omitempty"`
	Code    string `json:"errorCode"`
	Details string `json:"errorDetails"`
}

// asked reports whether a path is OFREP's, and of which flag; all is for all.
func asked(path string) (key string, all, ofrep bool) {
	rest, ok := strings.CutPrefix(path, Path)
	switch {
	case !ok || rest != "" && rest[0] != '/':
		return "", false, false
	case rest == "":
		return "", true, true
	}
	return rest[1:], false, true
}

// answer evaluates what was asked for and writes the answer.
func (f *Flags) answer(w http.ResponseWriter, r *http.Request, d *decision.Decision, key string, all bool) error {
	d.ShortCircuit = name
	stage := d.Stage(r.Context(), handoff.SpanFlags)
	body, fault := f.evaluate(w, r, d, key, all)
	stage.End()
	if fault != nil {
		return fault.write(w)
	}
	sum := sha256.Sum256(body)
	etag := `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
	h := w.Header()
	// What the session may see, for its browser alone, which has to ask each time.
	h.Set("Cache-Control", "private, no-cache")
	h.Set("Etag", etag)
	if all && matches(r.Header["If-None-Match"], etag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	return write(w, http.StatusOK, body)
}

// evaluate gives the body of the answer.
func (f *Flags) evaluate(w http.ResponseWriter, r *http.Request, d *decision.Decision, key string, all bool) ([]byte, *failure) {
	if fault := check(w, r); fault != nil {
		if !all {
			fault.Key = key
		}
		return nil, fault
	}
	current := f.current.Get()
	if !all {
		flag := current.find(key)
		if flag == nil || !flag.Public { // which of them is nobody's business
			return nil, &failure{http.StatusNotFound, key, codeNotFound, "There is no such flag."}
		}
		return flag.evaluate(d, r, f.Country).json, nil
	}
	body := make([]byte, 0, 64+128*len(current.flags))
	body = append(body, `{"flags":[`...)
	comma := false
	for _, flag := range current.flags {
		if !flag.Public {
			continue
		}
		if comma {
			body = append(body, ',')
		}
		body, comma = append(body, flag.evaluate(d, r, f.Country).json...), true
	}
	return append(body, "]}"...), nil
}

// check refuses what is not an evaluation request.
func check(w http.ResponseWriter, r *http.Request) *failure {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return &failure{http.StatusMethodNotAllowed, "", codeGeneral, "Flags are evaluated by POST."}
	}
	types := r.Header["Content-Type"]
	if len(types) != 1 || !isJSON(types[0]) {
		return &failure{http.StatusUnsupportedMediaType, "", codeGeneral, "The body is application/json, in UTF-8."}
	}
	if len(r.Header["Content-Encoding"]) > 0 {
		return &failure{http.StatusUnsupportedMediaType, "", codeGeneral, "The body is sent without Content-Encoding."}
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return &failure{http.StatusRequestEntityTooLarge, "", codeGeneral, "The body has " + strconv.Itoa(maxBody) + " bytes at most."}
	case err != nil:
		return &failure{http.StatusBadRequest, "", codeParse, "The body broke off."}
	}
	return readContext(data)
}

func isJSON(contentType string) bool {
	media, parameters, err := mime.ParseMediaType(contentType)
	charset := parameters["charset"]
	return err == nil && media == "application/json" && (charset == "" || strings.EqualFold(charset, "utf-8"))
}

// readContext reads the evaluation context, strictly, and believes nothing in
// it: whom a request is for its session says. Other members than context are
// those of later versions of the protocol.
func readContext(data []byte) *failure {
	var request struct {
		Context jsontext.Value `json:"context"`
	}
	if err := json.Unmarshal(data, &request); err != nil || jsontext.Value(data).Kind() != jsontext.KindBeginObject {
		return &failure{http.StatusBadRequest, "", codeParse, "The body is one JSON object, without duplicate names."}
	}
	if len(request.Context) == 0 {
		return nil
	}
	var context struct {
		TargetingKey jsontext.Value `json:"targetingKey"`
	}
	if err := json.Unmarshal(request.Context, &context); err != nil || request.Context.Kind() != jsontext.KindBeginObject {
		return &failure{http.StatusBadRequest, "", codeContext, "The context is an object."}
	}
	if key := context.TargetingKey; len(key) > 0 && key.Kind() != jsontext.KindString {
		return &failure{http.StatusBadRequest, "", codeContext, "The context's targetingKey is a text."}
	}
	return nil
}

// matches reports whether If-None-Match names etag, by weak comparison (RFC
// 9110, section 13.1.2).
func matches(lines []string, etag string) bool {
	for _, line := range lines {
		for candidate := range strings.SplitSeq(line, ",") {
			candidate = strings.TrimSpace(candidate)
			if candidate == "*" || strings.TrimPrefix(candidate, "W/") == etag {
				return true
			}
		}
	}
	return false
}

// write answers with the failure.
func (f *failure) write(w http.ResponseWriter) error {
	body, err := json.Marshal(f)
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	return write(w, f.status, body)
}

func write(w http.ResponseWriter, status int, body []byte) error {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, err := w.Write(body)
	return err
}
