package rfc9111

import "strings"

// bare is a bare item of a structured field (RFC 9651, section 3.3), as far as
// cache fields use it.
type bare struct {
	kind    byte   // 'i' integer, 'b' boolean, 's' string, 't' token, '?' another
	integer int64  // also a boolean, as 0 or 1
	text    string // of a string
}

// parser reads structured fields (RFC 9651, section 4.2). A rest of nil error
// means that what was asked for stood there.
type parser struct{ rest string }

func (p *parser) spaces() { p.rest = strings.TrimLeft(p.rest, " ") }
func (p *parser) ows()    { p.rest = strings.TrimLeft(p.rest, " \t") }

func (p *parser) take(c byte) bool {
	if p.rest != "" && p.rest[0] == c {
		p.rest = p.rest[1:]
		return true
	}
	return false
}

// dictionary calls f for each member of a dictionary (section 4.2.2), the last of a
// name again. ok is false when the field is none, and then nothing counts.
func dictionary(lines []string, f func(key string, value bare, inner bool)) (ok bool) {
	p := &parser{strings.Trim(strings.Join(lines, ", "), " ")}
	for p.rest != "" {
		key, ok := p.key()
		if !ok {
			return false
		}
		value, inner := bare{kind: 'b', integer: 1}, false
		if p.take('=') {
			if value, inner, ok = p.member(); !ok {
				return false
			}
		} else if !p.parameters() {
			return false
		}
		f(key, value, inner)
		if p.ows(); p.rest == "" {
			return true
		}
		if !p.take(',') {
			return false
		}
		if p.ows(); p.rest == "" { // a comma at the end
			return false
		}
	}
	return true
}

// strs reads a list of strings (RFC 9651, section 4.2.1). ok is false when the
// field is none, or has a member of another type.
func strs(lines []string) (list []string, ok bool) {
	p := &parser{strings.Trim(strings.Join(lines, ", "), " ")}
	for p.rest != "" {
		item, inner, ok := p.member()
		if !ok || inner || item.kind != 's' {
			return nil, false
		}
		list = append(list, item.text)
		if p.ows(); p.rest == "" {
			return list, true
		}
		if !p.take(',') {
			return nil, false
		}
		if p.ows(); p.rest == "" {
			return nil, false
		}
	}
	return list, true
}

// member reads an item, or an inner list whose items are of no interest.
func (p *parser) member() (item bare, inner, ok bool) {
	if !p.take('(') {
		item, ok = p.bare()
		return item, false, ok && p.parameters()
	}
	for {
		if p.spaces(); p.take(')') {
			return bare{}, true, p.parameters()
		}
		if _, ok := p.bare(); !ok || !p.parameters() {
			return bare{}, true, false
		}
		if p.rest == "" || p.rest[0] != ' ' && p.rest[0] != ')' {
			return bare{}, true, false
		}
	}
}

func (p *parser) parameters() bool {
	for p.take(';') {
		p.spaces()
		if _, ok := p.key(); !ok {
			return false
		}
		if p.take('=') {
			if _, ok := p.bare(); !ok {
				return false
			}
		}
	}
	return true
}

func (p *parser) key() (string, bool) {
	n := 0
	for n < len(p.rest) {
		c := p.rest[n]
		if !(c >= 'a' && c <= 'z' || c == '*' || n > 0 && (c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.')) {
			break
		}
		n++
	}
	key := p.rest[:n]
	p.rest = p.rest[n:]
	return key, n > 0
}

func (p *parser) bare() (bare, bool) {
	if p.rest == "" {
		return bare{}, false
	}
	switch c := p.rest[0]; {
	case c == '-' || c >= '0' && c <= '9':
		return p.number('i')
	case c == '@': // a date
		p.rest = p.rest[1:]
		return p.number('?')
	case c == '"':
		return p.str()
	case c == '?':
		if len(p.rest) < 2 || p.rest[1] != '0' && p.rest[1] != '1' {
			return bare{}, false
		}
		b := bare{kind: 'b', integer: int64(p.rest[1] - '0')}
		p.rest = p.rest[2:]
		return b, true
	case c == ':':
		return p.bytes()
	case c == '%':
		return p.display()
	case c == '*' || c|0x20 >= 'a' && c|0x20 <= 'z':
		return p.token()
	}
	return bare{}, false
}

// number reads an integer of at most 15 digits, or a decimal, which no cache field
// wants, of at most 12 and 3 (section 4.2.4).
func (p *parser) number(kind byte) (bare, bool) {
	negative := p.take('-')
	n, digits := int64(0), 0
	for digits < len(p.rest) && p.rest[digits] >= '0' && p.rest[digits] <= '9' {
		if digits == 15 {
			return bare{}, false
		}
		n = n*10 + int64(p.rest[digits]-'0')
		digits++
	}
	p.rest = p.rest[digits:]
	if digits == 0 {
		return bare{}, false
	}
	if p.take('.') {
		places := 0
		for places < len(p.rest) && p.rest[places] >= '0' && p.rest[places] <= '9' {
			places++
		}
		p.rest = p.rest[places:]
		return bare{kind: '?'}, kind == 'i' && digits <= 12 && places >= 1 && places <= 3
	}
	if negative {
		n = -n
	}
	return bare{kind: kind, integer: n}, true
}

func (p *parser) str() (bare, bool) {
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == '"':
			p.rest = p.rest[i+1:]
			return bare{kind: 's', text: b.String()}, true
		case c == '\\':
			if i++; i == len(p.rest) || p.rest[i] != '"' && p.rest[i] != '\\' {
				return bare{}, false
			}
			b.WriteByte(p.rest[i])
		case c < 0x20 || c > 0x7e:
			return bare{}, false
		default:
			b.WriteByte(c)
		}
	}
	return bare{}, false
}

func (p *parser) token() (bare, bool) {
	n := 1
	for n < len(p.rest) && (tchar(p.rest[n]) || p.rest[n] == ':' || p.rest[n] == '/') {
		n++
	}
	t := p.rest[:n]
	p.rest = p.rest[n:]
	return bare{kind: 't', text: t}, true
}

// bytes reads a byte sequence without decoding it.
func (p *parser) bytes() (bare, bool) {
	end := strings.IndexByte(p.rest[1:], ':')
	if end < 0 {
		return bare{}, false
	}
	for _, c := range []byte(p.rest[1 : 1+end]) {
		if !(c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '+' || c == '/' || c == '=') {
			return bare{}, false
		}
	}
	p.rest = p.rest[end+2:]
	return bare{kind: '?'}, true
}

// display reads a display string without decoding it.
func (p *parser) display() (bare, bool) {
	if len(p.rest) < 2 || p.rest[1] != '"' {
		return bare{}, false
	}
	for i := 2; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == '"':
			p.rest = p.rest[i+1:]
			return bare{kind: '?'}, true
		case c < 0x20 || c > 0x7e:
			return bare{}, false
		}
	}
	return bare{}, false
}

// tchar reports whether c may stand in a token (RFC 9110, section 5.6.2).
func tchar(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
