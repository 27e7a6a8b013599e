package replay

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// RedactHeader masks what a pattern matches in the words of a header. Its id and
// times stay, and so does who exported it. places is in how many it masked something.
func RedactHeader(pattern *regexp.Regexp, h Header) (masked Header, places int) {
	r := Redactor{pattern: pattern}
	for _, text := range []*string{&h.Recording.Cluster, &h.Recording.User, &h.Recording.Login, &h.Recording.Where} {
		*text = r.mask(*text)
	}
	h.Recording.Participants = slices.Clone(h.Recording.Participants)
	for i, name := range h.Recording.Participants {
		h.Recording.Participants[i] = r.mask(name)
	}
	h.Redacted = true
	return h, r.masked.Words
}

// words masks what an event says: its line of text, and its fields. What is in
// both is one place.
func (r *Redactor) words(text, fields string) (maskedText, maskedFields string) {
	before := r.masked.Words
	maskedText = r.mask(text)
	inText := r.masked.Words
	r.masked.Words = before
	maskedFields = r.fields(text, fields)
	r.masked.Words = max(inText, r.masked.Words)
	return maskedText, maskedFields
}

// fields masks the fields of an event with a text. They go altogether where their
// strings do not hold what the text has, or where the pattern matches their JSON
// across several.
func (r *Redactor) fields(text, fields string) string {
	if fields == "" {
		return ""
	}
	decoder := json.NewDecoder(strings.NewReader(fields))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		return ""
	}
	f := fieldMask{r: r, found: make(map[string]bool)}
	raw, err := json.Marshal(f.value(value))
	if err != nil {
		return ""
	}
	if shows(r.pattern, string(raw)) {
		r.masked.Words++
		return ""
	}
	for _, match := range r.pattern.FindAllString(text, -1) {
		if !f.found[match] {
			return ""
		}
	}
	return string(raw)
}

// fieldMask masks the strings of a JSON value.
type fieldMask struct {
	r     *Redactor
	found map[string]bool // what matched
}

func (f *fieldMask) text(text string) string {
	for _, match := range f.r.pattern.FindAllString(text, -1) {
		f.found[match] = true
	}
	return f.r.mask(text)
}

func (f *fieldMask) value(v any) any {
	switch v := v.(type) {
	case string:
		return f.text(v)
	case json.Number:
		if masked := f.text(v.String()); masked != v.String() {
			return masked
		}
	case []any:
		return f.list(v)
	case map[string]any:
		out := make(map[string]any, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			out[f.text(key)] = f.value(v[key])
		}
		return out
	}
	return v
}

// list masks a list: strings as one line first, as a command's arguments are
// read, and then each alone.
func (f *fieldMask) list(list []any) []any {
	var words []string
	for _, v := range list {
		if word, ok := v.(string); ok {
			words = append(words, word)
		}
	}
	out := slices.Clone(list)
	if len(words) == len(list) {
		line := []rune(f.text(strings.Join(words, " ")))
		for i, word := range words {
			n := utf8.RuneCountInString(word)
			out[i] = string(line[:n])
			line = line[min(n+1, len(line)):]
		}
	}
	for i, v := range out {
		out[i] = f.value(v)
	}
	return out
}
