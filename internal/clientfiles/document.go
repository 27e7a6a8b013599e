package clientfiles

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/tailscale/hujson"
)

// byteOrderMark is written before the first character by some editors.
var byteOrderMark = []byte("\ufeff")

// A document is JSON, with comments and trailing commas where its program
// allows them. It is changed by splicing: what is not touched keeps its bytes.
type document struct {
	mark    []byte
	text    []byte
	root    hujson.Value
	unit    string // of indentation
	newline string
}

// parseDocument reads an object. An empty text is an empty object; unit is the
// indentation of one that shows none. Comments are an error when strict.
func parseDocument(data []byte, unit string, strict bool) (*document, error) {
	d := &document{unit: unit, newline: "\n"}
	if bytes.HasPrefix(data, byteOrderMark) {
		d.mark, data = byteOrderMark, data[len(byteOrderMark):]
	}
	if len(bytes.TrimSpace(data)) == 0 {
		data = []byte("{}\n")
	}
	if bytes.Contains(data, []byte("\r\n")) {
		d.newline = "\r\n"
	}
	d.text = data
	root, err := hujson.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("it is not valid JSON: %s", strings.TrimPrefix(err.Error(), "hujson: "))
	}
	if strict && !root.IsStandard() {
		return nil, errors.New("it is not valid JSON: it has comments or trailing commas, which its program does not read")
	}
	object, ok := root.Value.(*hujson.Object)
	if !ok {
		return nil, errors.New("it holds no JSON object")
	}
	d.root = root
	if len(object.Members) > 0 {
		if indent, ok := d.indent(object.Members[0].Name.StartOffset); ok && indent != "" {
			d.unit = indent
		}
	}
	return d, nil
}

func (d *document) bytes(text []byte) []byte { return slices.Concat(d.mark, text) }

// plainValue returns the document as encoding/json reads it, without comments.
func (d *document) plainValue() (map[string]any, error) {
	std := d.root.Clone()
	std.Standardize()
	var v map[string]any
	err := json.Unmarshal(std.Pack(), &v)
	return v, err
}

// member returns an object's value of that name; nil when there is none.
func member(v *hujson.Value, name string) *hujson.Value {
	object, ok := v.Value.(*hujson.Object)
	if !ok {
		return nil
	}
	for i := range object.Members {
		if lit, ok := object.Members[i].Name.Value.(hujson.Literal); ok && lit.String() == name {
			return &object.Members[i].Value
		}
	}
	return nil
}

// textOf returns the string that an object has under a name.
func textOf(v *hujson.Value, name string) string {
	m := member(v, name)
	if m == nil {
		return ""
	}
	lit, ok := m.Value.(hujson.Literal)
	if !ok {
		return ""
	}
	return lit.String() // of a number, its digits
}

// An item is an element of an array, or a member of an object, with its name.
type item struct {
	name       string // of a member
	start, end int    // of name and value together
	value      *hujson.Value
}

func itemsOf(v *hujson.Value) []item {
	var list []item
	switch c := v.Value.(type) {
	case *hujson.Object:
		for i := range c.Members {
			m := &c.Members[i]
			name, _ := m.Name.Value.(hujson.Literal)
			list = append(list, item{name.String(), m.Name.StartOffset, m.Value.EndOffset, &m.Value})
		}
	case *hujson.Array:
		for i := range c.Elements {
			e := &c.Elements[i]
			list = append(list, item{"", e.StartOffset, e.EndOffset, e})
		}
	}
	return list
}

// afterLast returns where the white space and comments of a container begin
// that follow its last item, and whether a trailing comma stands before them.
func (d *document) afterLast(last item) (at int, comma bool) {
	at = last.end + len(last.value.AfterExtra)
	if d.text[at] == ',' {
		return at + 1, true
	}
	return last.end, false
}

// insert returns the text with a further item at the end of a container. render
// returns the item's text for an indentation.
func (d *document) insert(container *hujson.Value, render func(indent string) string) []byte {
	items := itemsOf(container)
	closing := container.EndOffset - 1
	if len(items) == 0 {
		outer, _ := d.indent(container.StartOffset)
		inner := bytes.TrimRight(d.text[container.StartOffset+1:closing], " \t\r\n") // a comment, if anything
		var b bytes.Buffer
		b.Write(d.text[:container.StartOffset+1])
		b.Write(inner)
		b.WriteString(d.newline + outer + d.unit + render(outer+d.unit) + d.newline + outer)
		b.Write(d.text[closing:])
		return b.Bytes()
	}
	last := items[len(items)-1]
	indent, own := d.indent(items[0].start)
	if !own {
		outer, _ := d.indent(container.StartOffset)
		indent = outer + d.unit
	}
	at, comma := d.afterLast(last)
	end := at
	// A comment at the end of the last item's line stays there.
	if line, _, _ := bytes.Cut(d.text[at:closing], []byte("\n")); bytes.HasPrefix(bytes.TrimLeft(line, " \t"), []byte("//")) {
		end = at + len(bytes.TrimRight(line, "\r"))
	}
	var b bytes.Buffer
	b.Write(d.text[:at])
	if !comma {
		b.WriteByte(',')
	}
	b.Write(d.text[at:end])
	b.WriteString(d.newline + indent + render(indent))
	if comma {
		b.WriteByte(',')
	}
	b.Write(d.text[end:])
	return b.Bytes()
}

// replace returns the text with another value in the place of an item's.
func (d *document) replace(it item, render func(indent string) string) []byte {
	indent, _ := d.indent(it.start)
	return slices.Concat(d.text[:it.start], []byte(render(indent)), d.text[it.end:])
}

// cut returns the text without the i-th item of a container, its line and the
// comma that goes with it.
func (d *document) cut(container *hujson.Value, i int) []byte {
	items := itemsOf(container)
	it := items[i]
	from := it.start
	if before, own := bytes.CutSuffix(bytes.TrimRight(d.text[:it.start], " \t"), []byte("\n")); own {
		from = len(bytes.TrimSuffix(before, []byte("\r")))
	}
	to, comma := d.afterLast(it)
	if comma {
		return slices.Concat(d.text[:from], d.text[it.end:to-1], d.text[to:])
	}
	if i == 0 {
		return slices.Concat(d.text[:from], d.text[it.end:])
	}
	before := items[i-1]
	at := before.end + len(before.value.AfterExtra) // of the comma that is one too many now
	return slices.Concat(d.text[:at], d.text[at+1:from], d.text[it.end:])
}

// indent returns the white space that begins the line of an offset, and whether
// nothing else stands before the offset on that line.
func (d *document) indent(offset int) (indent string, own bool) {
	line := d.text[bytes.LastIndexByte(d.text[:offset], '\n')+1 : offset]
	rest := bytes.TrimLeft(line, " \t")
	return string(line[:len(line)-len(rest)]), len(rest) == 0
}

// render writes a value as JSON at an indentation.
func (d *document) render(v any, indent string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // connection strings have ampersands
	enc.SetIndent(indent, d.unit)
	if err := enc.Encode(v); err != nil {
		panic(err) // only berth's own values are written
	}
	return strings.ReplaceAll(strings.TrimRight(b.String(), "\n"), "\n", d.newline)
}

// quoted writes a member's name.
func quoted(name string) string {
	raw, err := json.Marshal(name)
	if err != nil {
		panic(err) // a string always has a JSON form
	}
	return string(raw) + ": "
}

// sameBut fails unless two texts hold the same apart from what strip removes.
// It guards against a splice that would damage an entry that is not berth's.
func sameBut(before *document, after []byte, strict bool, strip func(map[string]any)) error {
	next, err := parseDocument(after, before.unit, strict)
	if err != nil {
		return fmt.Errorf("the changed file would be broken: %w", err)
	}
	a, err := before.plainValue()
	if err != nil {
		return err
	}
	b, err := next.plainValue()
	if err != nil {
		return err
	}
	strip(a)
	strip(b)
	if !reflect.DeepEqual(a, b) {
		return errors.New("the change would touch entries that are not berth's")
	}
	return nil
}
