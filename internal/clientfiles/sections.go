package clientfiles

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"

	"berth/proxies/db"
)

// sections is a format of named sections with one setting a line. An entry of
// berth's stands between two comments that name its tunnel.
type sections struct {
	as db.Format
	// rename names the sections of an entry after its tunnel.
	rename func(text, tunnel string) string
	// setting reports whether a line in a section is right; the first section
	// may have none before it.
	setting func(line string) bool
	// comments begin the lines to skip.
	comments string
	// loose are the lines that may stand outside of sections.
	loose *regexp.Regexp
}

var pgService = sections{
	as: db.PGService, rename: func(text, _ string) string { return text },
	setting: func(line string) bool { return strings.Contains(line, "=") }, comments: "#",
}

var myCnf = sections{
	as: db.MyCnf,
	rename: func(text, tunnel string) string {
		return sectionLine.ReplaceAllStringFunc(text, func(line string) string {
			return strings.TrimSuffix(line, "]") + "_" + tunnel + "]"
		})
	},
	setting: func(string) bool { return true }, comments: "#;", loose: regexp.MustCompile(`^!include(dir)?\s`),
}

// sectionLine is the line that begins a section.
var sectionLine = regexp.MustCompile(`(?m)^\[[^\]\n]+\]`)

var comment = regexp.MustCompile(`(?m)^#.*\n`)

// The comments around an entry.
const (
	beginMark = "# berth: begin "
	endMark   = "# berth: end "
)

// A block is an entry of berth's, as the range of its lines.
type block struct {
	tunnel   string
	from, to int // lines; to is the one after the last
}

// A sectioned file is its lines, each with its end, and what is in them.
type sectioned struct {
	lines   []string
	newline string
	blocks  []block
	names   []string // of sections outside of the blocks
}

// parse reads a file as strictly as its client does.
func (f sections) parse(data []byte) (*sectioned, error) {
	s := &sectioned{newline: "\n"}
	if strings.Contains(string(data), "\r\n") {
		s.newline = "\r\n"
	}
	if strings.ContainsRune(string(data), 0) {
		return nil, errors.New("it is not a text file")
	}
	inSection, open := false, -1
	for i, line := range slices.Collect(strings.Lines(string(data))) {
		s.lines = append(s.lines, line)
		text := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(text, beginMark):
			if open >= 0 {
				return nil, fmt.Errorf("line %d begins an entry of berth's within another", i+1)
			}
			open = len(s.blocks)
			s.blocks = append(s.blocks, block{tunnel: markedTunnel(text, beginMark), from: i})
		case strings.HasPrefix(text, endMark):
			if open < 0 || s.blocks[open].tunnel != markedTunnel(text, endMark) {
				return nil, fmt.Errorf("line %d ends an entry of berth's that does not begin", i+1)
			}
			s.blocks[open].to, open = i+1, -1
		case text == "", strings.ContainsAny(text[:1], f.comments), f.loose != nil && f.loose.MatchString(text):
		case text[0] == '[':
			if !strings.Contains(text, "]") {
				return nil, fmt.Errorf("line %d begins a section without an end: %q", i+1, plainStart(text))
			}
			if inSection = true; open < 0 {
				s.names = append(s.names, text[1:strings.IndexByte(text, ']')])
			}
		case !inSection:
			return nil, fmt.Errorf("line %d is outside of a section", i+1)
		case !f.setting(text):
			return nil, fmt.Errorf("line %d is no setting", i+1)
		}
	}
	if open >= 0 {
		return nil, fmt.Errorf("the entry of berth's for %q has no end", s.blocks[open].tunnel)
	}
	return s, nil
}

// markedTunnel returns the name in a mark; what follows it is for the reader.
func markedTunnel(text, mark string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(text, mark), " ")
	return name
}

// plainStart cuts a line for an error: the rest may be secret.
func plainStart(line string) string { return line[:min(len(line), 20)] }

func (f sections) entries(data []byte) ([]Entry, error) {
	s, err := f.parse(data)
	if err != nil {
		return nil, err
	}
	var list []Entry
	for _, b := range s.blocks {
		values := map[string]string{}
		for _, line := range s.lines[b.from:b.to] {
			if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
				values[strings.TrimSpace(key)] = strings.TrimSpace(value)
			}
		}
		list = append(list, Entry{Tunnel: b.tunnel, Address: net.JoinHostPort(values["host"], values["port"])})
	}
	return list, nil
}

func (f sections) put(data []byte, proto db.Protocol, ep db.Endpoint, removal string) ([]byte, error) {
	s, err := f.parse(data)
	if err != nil {
		return nil, err
	}
	text, err := proto.Format(f.as, ep)
	if err != nil {
		return nil, err
	}
	text = comment.ReplaceAllString(f.rename(text, ep.TunnelName), "") // they are about other ways to use the text
	for _, line := range sectionLine.FindAllString(text, -1) {
		if name := strings.Trim(line, "[]"); slices.Contains(s.names, name) {
			return nil, fmt.Errorf("section %q: %w", name, ErrTaken)
		}
	}
	entry := fmt.Sprintf("%s%s (to remove it: %s)\n%s\n%s%s\n",
		beginMark, ep.TunnelName, removal, strings.TrimRight(text, "\n"), endMark, ep.TunnelName)
	entry = strings.ReplaceAll(entry, "\n", s.newline)
	if i := slices.IndexFunc(s.blocks, func(b block) bool { return b.tunnel == ep.TunnelName }); i >= 0 {
		b := s.blocks[i]
		return []byte(strings.Join(slices.Concat(s.lines[:b.from], []string{entry}, s.lines[b.to:]), "")), nil
	}
	before := strings.Join(s.lines, "")
	if before != "" && !strings.HasSuffix(before, "\n") {
		before += s.newline
	}
	if before != "" && !strings.HasSuffix(before, s.newline+s.newline) {
		before += s.newline
	}
	return []byte(before + entry), nil
}

func (f sections) remove(data []byte, tunnel string) ([]byte, error) {
	s, err := f.parse(data)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(s.blocks, func(b block) bool { return b.tunnel == tunnel })
	if i < 0 {
		return nil, ErrNone
	}
	b := s.blocks[i]
	if b.from > 0 && strings.TrimSpace(s.lines[b.from-1]) == "" {
		b.from-- // the empty line that put writes before an entry
	}
	return []byte(strings.Join(slices.Concat(s.lines[:b.from], s.lines[b.to:]), "")), nil
}
