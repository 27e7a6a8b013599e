package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"unicode/utf8"
)

// maxSize is how large a config file may be. It is a bound against accidents:
// ten thousand tunnels fit.
const maxSize = 1 << 20

// byteOrderMark is what some editors put before the first character.
const byteOrderMark = "\ufeff"

// readFile returns the content of the config file at path. An error that is
// fs.ErrNotExist means that there is no file.
func readFile(path string) ([]byte, error) { return readFileIf(path, nil) }

// readFileIf is readFile of a file that trusted, unless it is nil, finds nothing
// wrong with.
func readFileIf(path string, trusted func(*os.File) error) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	if !info.Mode().IsRegular() {
		what := "no regular file"
		if info.IsDir() {
			what = "a folder, not a file"
		}
		return nil, &Error{Path: path, Mistakes: []Mistake{{Text: "this is " + what}}}
	}
	if info.Size() > maxSize {
		return nil, tooLarge(path, info.Size())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	defer func() { _ = f.Close() }() // only read
	if trusted != nil {
		if err := trusted(f); err != nil {
			return nil, &Error{Path: path, Mistakes: []Mistake{{Text: err.Error()}}}
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fileError(path, err)
	}
	return data, nil
}

// fileError makes an Error of what the system says of the file, unless that is
// that there is none.
func fileError(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	cause := err
	if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
		cause = pathErr.Err
	}
	return &Error{Path: path, Mistakes: []Mistake{{Text: "the file cannot be read: " + cause.Error()}}}
}

func tooLarge(path string, size int64) *Error {
	return &Error{Path: path, Mistakes: []Mistake{{Text: fmt.Sprintf(
		"the file is too large: %d KiB, where %d KiB is the most that berth reads", (size+1023)/1024, maxSize/1024)}}}
}

// text checks that data is text as YAML knows it and returns it without a byte
// order mark. It adds a mistake for each thing that cannot be part of it.
func text(data []byte, ms *mistakes) []byte {
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		ms.add(position{}, "", "the file is UTF-16: save it as UTF-8")
		return nil
	}
	data = bytes.TrimPrefix(data, []byte(byteOrderMark))
	at := position{1, 1}
	for i := 0; i < len(data) && len(*ms) <= maxMistakes; {
		r, n := utf8.DecodeRune(data[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			ms.add(at, "", "the byte 0x%02x is not UTF-8: save the file as UTF-8", data[i])
			return nil // the rest is likely to be no better
		case !printable(r):
			ms.add(at, "", "the character %U is invisible and not allowed: delete it", r)
		}
		i += n
		at.column++
		if isBreak(r) && (r != '\r' || i == len(data) || data[i] != '\n') {
			at = position{at.line + 1, 1}
		}
	}
	return data
}

// printable reports whether YAML allows r.
func printable(r rune) bool {
	switch {
	case r == '\t', r == '\n', r == '\r', r == 0x85:
		return true
	case r < 0x20, 0x7f <= r && r < 0xa0:
		return false
	}
	return r != 0xfeff && r != 0xfffe && r != 0xffff
}

// isBreak reports whether r ends a line in YAML.
func isBreak(r rune) bool {
	return r == '\n' || r == '\r' || r == 0x85 || r == 0x2028 || r == 0x2029
}

// lineStarts returns the offset of the first byte of every line in text.
func lineStarts(text []byte) []int {
	starts := []int{0}
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		i += n
		if isBreak(r) && (r != '\r' || i == len(text) || text[i] != '\n') {
			starts = append(starts, i)
		}
	}
	return starts
}
