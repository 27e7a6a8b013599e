package doctest

import (
	"path"
	"regexp"
	"strings"
)

// assignment is a variable set in front of a command.
var assignment = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)

// Calls are the calls of berth in a line of shell, those in $(…) too: the words
// after berth, without quotes. Words that stand in brackets, as in a usage
// line, keep them.
func Calls(line string) [][]string {
	line = strings.TrimSpace(line)
	for _, prompt := range []string{"$ ", "# ", "> ", "PS> "} {
		if rest, ok := strings.CutPrefix(line, prompt); ok {
			line = rest
			break
		}
	}
	var calls [][]string
	for _, words := range commands(line) {
		for len(words) > 0 && (assignment.MatchString(words[0]) || words[0] == "sudo" || words[0] == "env" || words[0] == "export") {
			words = words[1:]
		}
		if len(words) > 0 && strings.TrimSuffix(path.Base(strings.ReplaceAll(words[0], `\`, "/")), ".exe") == "berth" {
			calls = append(calls, words[1:])
		}
	}
	return calls
}

// commands splits a line into the commands it holds, each into its words.
func commands(line string) [][]string {
	s := splitter{rest: line}
	s.run(false)
	return s.done
}

// A splitter takes a line of shell apart, as far as documents need it.
type splitter struct {
	rest string
	done [][]string

	words  []string
	word   strings.Builder
	inWord bool
}

// run reads to the end, or to the parenthesis that closes a substitution.
func (s *splitter) run(nested bool) {
	quote := byte(0)
	for s.rest != "" {
		c := s.rest[0]
		s.rest = s.rest[1:]
		switch {
		case quote != '\'' && c == '$' && strings.HasPrefix(s.rest, "("):
			s.rest = s.rest[1:]
			s.substitute()
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			s.put(c)
		case c == '\'' || c == '"':
			quote, s.inWord = c, true
		case c == '\\' && s.rest == "":
			// The command goes on in the next line, which is not looked at.
		case c == ' ' || c == '\t':
			s.endWord()
		case c == '#' && !s.inWord:
			s.rest = ""
		case nested && c == ')':
			s.endCommand()
			return
		case c == ';' || c == '|' || c == '&' || c == '>' || c == '<':
			s.endCommand()
		default:
			s.put(c)
		}
	}
	s.endCommand()
}

// substitute reads a command in $(…) and leaves a word in its place.
func (s *splitter) substitute() {
	inner := splitter{rest: s.rest}
	inner.run(true)
	s.rest = inner.rest
	s.done = append(s.done, inner.done...)
	s.put('x')
}

func (s *splitter) put(c byte) {
	s.word.WriteByte(c)
	s.inWord = true
}

func (s *splitter) endWord() {
	if s.inWord {
		s.words = append(s.words, s.word.String())
	}
	s.word.Reset()
	s.inWord = false
}

func (s *splitter) endCommand() {
	s.endWord()
	if len(s.words) > 0 {
		s.done = append(s.done, s.words)
	}
	s.words = nil
}
