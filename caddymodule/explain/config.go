// Package explain says what the boundary of a POP is, route by route, and what
// would become of a request, without sending it.
package explain

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Config is Caddy's configuration as it was given, in JSON. What runs has forgotten
// where it came from; this has not.
type Config struct {
	Admin json.RawMessage `json:"admin"`
	Apps  struct {
		Edge json.RawMessage `json:"edge"`
		HTTP struct {
			Servers map[string]*server `json:"servers"`
		} `json:"http"`
	} `json:"apps"`
}

type server struct {
	Listen      []string          `json:"listen"`
	Routes      []route           `json:"routes"`
	NamedRoutes map[string]*route `json:"named_routes"`
}

type route struct {
	Group    string                       `json:"group"`
	Match    []map[string]json.RawMessage `json:"match"`
	Handle   []handler                    `json:"handle"`
	Terminal bool                         `json:"terminal"`
}

// handler is what is read here of any handler.
type handler struct {
	Name   string  `json:"handler"`
	Source string  `json:"source"`
	Routes []route `json:"routes"`

	To           string          `json:"to"`       // edge_region
	Optional     bool            `json:"optional"` // edge_session
	RequireRoles []string        `json:"require_roles"`
	RequireFresh json.RawMessage `json:"require_fresh"`
	Policy       string          `json:"policy"`   // edge_cache
	Redirect     json.RawMessage `json:"redirect"` // edge_signed
	Invoked      string          `json:"name"`     // invoke
	Dynamic      struct {
		Source string `json:"source"`
	} `json:"dynamic_upstreams"`
	Upstreams []struct {
		Dial string `json:"dial"`
	} `json:"upstreams"`
}

// UnmarshalJSON reads the fields of ours and of Caddy's that have one meaning;
// another's may have any form under the same name, and is then known by its name
// alone.
func (h *handler) UnmarshalJSON(data []byte) error {
	type plain handler
	if json.Unmarshal(data, (*plain)(h)) == nil {
		return nil
	}
	var named struct {
		Name string `json:"handler"`
	}
	err := json.Unmarshal(data, &named)
	*h = handler{Name: named.Name}
	return err
}

// Parse reads a configuration.
func Parse(data []byte) (*Config, error) {
	c := new(Config)
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	for name, s := range c.Apps.HTTP.Servers {
		if s == nil {
			return nil, fmt.Errorf("read the configuration: server %s is null", name)
		}
	}
	return c, nil
}

// HasEdge reports whether there is an edge in it.
func (c *Config) HasEdge() bool { return len(c.Apps.Edge) > 0 }

func (c *Config) serverNames() []string {
	var names []string
	for name := range c.Apps.HTTP.Servers {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// where says where a handler stands: its source, else its path under /config.
func (h *handler) where(path string) string {
	if h != nil && h.Source != "" {
		return h.Source
	}
	return path
}

func serversPath(name string) string { return "/config/apps/http/servers/" + name }

func below(path, field string, index int) string {
	return path + "/" + field + "/" + strconv.Itoa(index)
}

// called is what people call a handler.
func called(name string) string {
	if name == "static_response" {
		return "respond"
	}
	return name
}

// label says which requests a route is for: sets of matchers, of which one must
// match, with all that is in it.
func (r *route) label() string {
	if len(r.Match) == 0 {
		if r.Group != "" {
			return "any other request"
		}
		return "any request"
	}
	sets := make([]string, len(r.Match))
	for i, set := range r.Match {
		sets[i] = setLabel(set)
	}
	return strings.Join(sets, " or ")
}

// ahead are the matchers that are read first.
var ahead = []string{"protocol", "host", "method", "path", "path_regexp"}

func setLabel(set map[string]json.RawMessage) string {
	names := make([]string, 0, len(set))
	for name := range set {
		names = append(names, name)
	}
	sort.Slice(names, func(i, j int) bool {
		a, b := slices.Index(ahead, names[i]), slices.Index(ahead, names[j])
		if (a < 0) != (b < 0) {
			return a >= 0
		}
		if a != b {
			return a < b
		}
		return names[i] < names[j]
	})
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = matcherLabel(name, set[name])
	}
	if len(parts) == 0 {
		return "any request"
	}
	return strings.Join(parts, ", ")
}

// maxLabel bounds what is shown of a matcher, in bytes.
const maxLabel = 120

func matcherLabel(name string, raw json.RawMessage) string {
	var words []string
	var one string
	switch {
	case name == "not":
		var sets []map[string]json.RawMessage
		if json.Unmarshal(raw, &sets) == nil {
			for _, set := range sets {
				words = append(words, "("+setLabel(set)+")")
			}
		}
	case json.Unmarshal(raw, &words) == nil:
	case json.Unmarshal(raw, &one) == nil:
		words = []string{one}
	default:
		words = fields(raw)
	}
	text := strings.TrimSpace(name + " " + strings.Join(words, " "))
	if len(text) > maxLabel {
		text = strings.ToValidUTF8(text[:maxLabel], "") + "…"
	}
	return text
}

// fields writes an object as name=value, sorted.
func fields(raw json.RawMessage) []string {
	var object map[string]any
	if json.Unmarshal(raw, &object) != nil {
		return []string{string(raw)}
	}
	words := make([]string, 0, len(object))
	for name, value := range object {
		switch v := value.(type) {
		case string:
			words = append(words, name+"="+v)
		case []any:
			texts := make([]string, len(v))
			for i := range v {
				texts[i] = fmt.Sprint(v[i])
			}
			words = append(words, name+"="+strings.Join(texts, ","))
		default:
			words = append(words, name+"="+fmt.Sprint(v))
		}
	}
	sort.Strings(words)
	return words
}
