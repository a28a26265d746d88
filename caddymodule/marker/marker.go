// Package marker makes and reads the mark of a recent write: whoever wrote sees what
// was written, whichever POP is asked next.
package marker

import (
	"crypto/sha256"
	"encoding/binary"
	"net/http"
	"net/textproto"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/caddymodule/decision"
	"github.com/gatehouse-edge/gatehouse/caddymodule/edge"
	"github.com/gatehouse-edge/gatehouse/handoff"
)

const (
	// markerCookie is the marker's cookie, markerHost the same where browsers can be
	// had to keep it to one host and to TLS.
	markerCookie = "edge_wrote"
	markerHost   = "__Host-" + markerCookie
	// markerPurpose keeps what is sealed here from being opened as something else.
	markerPurpose = "edge-wrote"
	// maxMarkers is how many of them in one request are looked at.
	maxMarkers = 4
)

// Marks makes and reads the markers of recent writes. A marker says, sealed by the
// secret of the edge's cookies so that every POP can read it and nobody else:
//
//	version  1 byte
//	made     8 bytes, milliseconds since 1970, big endian
//	ends     8 bytes, likewise
//	whose    16 bytes: a hash of tenant, issuer and session
//	position the rest: where in the region's log the write is; may be empty
//
// A browser keeps it as a cookie. Whoever has a bearer token gets it in
// X-Edge-Wrote, and sends it back there.
type Marks struct {
	sealer *edge.Sealer
	life   time.Duration
	host   bool // markers are for https alone, whatever this connection is
	now    func() time.Time
}

// New gives the marks of a POP whose own last for life. It is nil for an app without a
// cookie secret, by which none is made or read.
func New(app *edge.App, life time.Duration) *Marks {
	if !app.SignsCookies() {
		return nil
	}
	return &Marks{
		sealer: app.Sealer(markerPurpose), life: life,
		host: strings.HasPrefix(app.SessionCookie, "__Host-"), now: time.Now,
	}
}

const (
	markerVersion = 2
	whoseSize     = 16
	markerHead    = 1 + 8 + 8 + whoseSize
	maxPosition   = 64
	// maxMarker is the longest that a marker can be, sealed and in base64url.
	maxMarker = 256
)

// marker is what one says.
type marker struct {
	made     time.Time
	ends     time.Time
	whose    [whoseSize]byte
	position string
}

// whoseOf names a tenant's session, without saying which it is.
func whoseOf(who *handoff.Identity) (whose [whoseSize]byte) {
	h := sha256.New()
	for _, part := range [...]string{who.Tenant, who.SubjectIssuer, who.Session} {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		h.Write(size[:])
		h.Write([]byte(part))
	}
	var sum [sha256.Size]byte
	copy(whose[:], h.Sum(sum[:0]))
	return whose
}

func (m marker) bytes() []byte {
	out := make([]byte, 0, markerHead+len(m.position))
	out = append(out, markerVersion)
	out = binary.BigEndian.AppendUint64(out, uint64(m.made.UnixMilli()))
	out = binary.BigEndian.AppendUint64(out, uint64(m.ends.UnixMilli()))
	out = append(out, m.whose[:]...)
	return append(out, m.position...)
}

func parseMarker(plain []byte) (m marker, ok bool) {
	if len(plain) < markerHead || plain[0] != markerVersion {
		return marker{}, false
	}
	m.made = time.UnixMilli(int64(binary.BigEndian.Uint64(plain[1:9])))
	m.ends = time.UnixMilli(int64(binary.BigEndian.Uint64(plain[9:17])))
	copy(m.whose[:], plain[17:markerHead])
	m.position = string(plain[markerHead:])
	return m, m.position == "" || handoff.ValidPosition(m.position)
}

// Keep gives the client of a session the marker of a write at position, which is
// empty where it is not known. h is the header of the answer. Nobody's write marks
// nothing: there is nobody to know again. tls says whether the client's connection is.
func (m *Marks) Keep(d *decision.Decision, tls bool, h http.Header, position string) {
	who := &d.Identity
	if m == nil || who.Anonymous() || who.Session == "" {
		return
	}
	now := m.now()
	sealed, err := m.sealer.Seal(marker{now, now.Add(m.life), whoseOf(who), position}.bytes())
	if err != nil { // the secret could not be read; the app did not start
		return
	}
	if d.Auth == decision.AuthBearer {
		h[handoff.HeaderWrote] = []string{sealed}
		return
	}
	d.SetCookie(&http.Cookie{
		Name: m.cookie(tls), Value: sealed, Path: "/", MaxAge: int((m.life + time.Second - 1) / time.Second),
		HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: m.host || tls,
	})
}

// cookie is the marker's name.
func (m *Marks) cookie(tls bool) string {
	if m.host || tls {
		return markerHost
	}
	return markerCookie
}

// Mark is what the client proves that it wrote.
type Mark struct {
	// Position is where the write is in the region's log. Empty: not known.
	Position string
	// At is when it was, by the clock of the POP that made the mark.
	At time.Time
}

// Recent reports whether the client proves with a marker that it wrote a moment
// ago, and where that is in the region's log, where a marker of its own says. What
// is forged, over, or another session's is passed over.
//
// A route may look at no session at all. There a marker counts, whosever it is: to
// go home is never wrong, and the client that wrote has to see it there too. It
// then gives no position.
func (m *Marks) Recent(r *http.Request, d *decision.Decision) (mark Mark, recent bool) {
	if m == nil {
		return Mark{}, false
	}
	if d.Auth == decision.AuthBearer {
		if d.SentMarker == "" {
			return Mark{}, false
		}
		return m.read(d.SentMarker, &d.Identity)
	}
	lines := r.Header["Cookie"]
	if len(lines) == 0 {
		return Mark{}, false
	}
	name, left := m.cookie(r.TLS != nil), maxMarkers
	for _, line := range lines {
		for line != "" && left > 0 && strings.Contains(line, name) {
			var pair string
			pair, line, _ = strings.Cut(line, ";")
			n, value, _ := strings.Cut(textproto.TrimString(pair), "=")
			if n != name {
				continue
			}
			left--
			read, ok := m.read(value, &d.Identity)
			recent = recent || ok
			if read.Position != "" {
				mark.Position = read.Position // of two, the one that is sent last: which is later only the region knows
			}
			if read.At.After(mark.At) {
				mark.At = read.At
			}
		}
	}
	return mark, recent
}

// read opens one marker.
func (m *Marks) read(sealed string, who *handoff.Identity) (mark Mark, ok bool) {
	if sealed == "" || len(sealed) > maxMarker {
		return Mark{}, false
	}
	plain, ok := m.sealer.Open(sealed)
	if !ok {
		return Mark{}, false
	}
	said, ok := parseMarker(plain)
	switch {
	case !ok || !m.now().Before(said.ends):
		return Mark{}, false
	case who.Anonymous():
		return Mark{At: said.made}, true
	case said.whose != whoseOf(who):
		return Mark{}, false
	}
	return Mark{said.position, said.made}, true
}
