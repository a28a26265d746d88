package rfc9111

import (
	"strings"
	"time"
)

// imfFixdate is the form that senders must use: 29 bytes, always.
const imfFixdate = "Mon, 02 Jan 2006 15:04:05 GMT"

// obsolete are the two forms that recipients must still read.
var obsolete = [...]string{"Monday, 02-Jan-06 15:04:05 GMT", "Mon Jan _2 15:04:05 2006"}

// ParseDate reads an HTTP-date (RFC 9110, section 5.6.7) in any of its three
// forms. Unlike http.ParseTime it takes each form to the letter, since a date in
// another is none and makes an Expires one that has passed; names are read in any
// case, and a wrong day of the week is no matter: nothing depends on it. now tells the century of a year of two digits: one that seems more than 50
// years ahead is in the past.
func ParseDate(text string, now time.Time) (time.Time, bool) {
	if len(text) == len(imfFixdate) && text[3] == ',' {
		t, err := time.Parse(imfFixdate, titled(text))
		return t, err == nil && t.Format(imfFixdate)[3:] == titled(text)[3:]
	}
	if t, err := time.Parse(obsolete[0], titled(text)); err == nil && afterDay(t.Format(obsolete[0])) == afterDay(titled(text)) {
		year := now.Year()/100*100 + t.Year()%100
		if year > now.Year()+50 {
			year -= 100
		}
		return time.Date(year, t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC), true
	}
	t, err := time.Parse(obsolete[1], titled(text))
	return t, err == nil && t.Format(obsolete[1])[3:] == titled(text)[3:]
}

// afterDay is what follows the name of the day.
func afterDay(text string) string { return text[max(0, strings.IndexByte(text, ',')):] }

// titled spells names as the layouts do: Sun, Nov, GMT.
func titled(text string) string {
	b := []byte(text)
	inWord := false
	for i, c := range b {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		switch {
		case letter && inWord:
			b[i] = c | 0x20
		case letter:
			b[i] = c &^ 0x20
		}
		inWord = letter
	}
	return strings.Replace(string(b), "Gmt", "GMT", 1)
}

// FormatDate writes an HTTP-date.
func FormatDate(t time.Time) string { return t.UTC().Format(imfFixdate) }
