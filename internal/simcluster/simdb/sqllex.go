package simdb

import (
	"fmt"
	"strings"
	"unicode"
)

// tokenKind is a kind of SQL token.
type tokenKind int

const (
	tokenEnd    tokenKind = iota
	tokenWord             // identifier or keyword, lower case
	tokenNumber           // digits
	tokenString           // the text between quotes
	tokenParam            // $1, or ? as the next one
	tokenSymbol           // anything else, one or two characters
)

type token struct {
	kind tokenKind
	text string
}

// lexSQL splits one SQL statement into tokens. Comments are left out.
func lexSQL(sql string) ([]token, error) {
	var tokens []token
	for rest := skipBlank(sql); rest != ""; rest = skipBlank(rest) {
		tok, n, err := nextToken(rest)
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, tok)
		rest = rest[n:]
	}
	return tokens, nil
}

// skipBlank returns sql without leading white space and comments.
func skipBlank(sql string) string {
	for {
		sql = strings.TrimLeftFunc(sql, unicode.IsSpace)
		switch {
		case strings.HasPrefix(sql, "--"):
			_, sql, _ = strings.Cut(sql, "\n")
		case strings.HasPrefix(sql, "/*"):
			_, sql, _ = strings.Cut(sql[2:], "*/")
		default:
			return sql
		}
	}
}

// nextToken returns the token that sql, not empty, begins with, and its length.
func nextToken(sql string) (token, int, error) {
	c := sql[0]
	switch {
	case c == '\'':
		return quoted(sql, tokenString)
	case c == '"' || c == '`':
		return quoted(sql, tokenWord)
	case isDigit(c):
		n := span(sql, func(c byte) bool { return isDigit(c) || c == '.' })
		return token{tokenNumber, sql[:n]}, n, nil
	case c == '$' && len(sql) > 1 && isDigit(sql[1]):
		n := 1 + span(sql[1:], isDigit)
		return token{tokenParam, sql[1:n]}, n, nil
	case c == '?':
		return token{tokenParam, ""}, 1, nil
	case strings.HasPrefix(sql, "@@"):
		n := 2 + span(sql[2:], func(c byte) bool { return isWord(c) || c == '.' })
		return token{tokenWord, strings.ToLower(sql[:n])}, n, nil
	case isWord(c):
		n := span(sql, func(c byte) bool { return isWord(c) || c == '.' })
		return token{tokenWord, strings.ToLower(sql[:n])}, n, nil
	case strings.HasPrefix(sql, "::"), strings.HasPrefix(sql, "||"):
		return token{tokenSymbol, sql[:2]}, 2, nil
	default:
		return token{tokenSymbol, sql[:1]}, 1, nil
	}
}

// quoted reads a quoted token; a doubled quote stands for one.
func quoted(sql string, kind tokenKind) (token, int, error) {
	quote := sql[0]
	var b strings.Builder
	for i := 1; i < len(sql); i++ {
		if sql[i] != quote {
			b.WriteByte(sql[i])
			continue
		}
		if i+1 < len(sql) && sql[i+1] == quote {
			b.WriteByte(quote)
			i++
			continue
		}
		return token{kind, b.String()}, i + 1, nil
	}
	return token{}, 0, fmt.Errorf("unterminated quote at or near %q", sql)
}

func span(s string, in func(byte) bool) int {
	n := 0
	for n < len(s) && in(s[n]) {
		n++
	}
	return n
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isWord(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || isDigit(c) || c >= 0x80
}

// splitSQL splits a script at the semicolons that are not in quotes or
// comments, and drops what is empty.
func splitSQL(script string) ([]string, error) {
	var statements []string
	rest, start := script, 0
	for {
		blank := len(rest) - len(skipBlank(rest))
		rest = rest[blank:]
		pos := len(script) - len(rest)
		if rest == "" || rest[0] == ';' {
			if s := skipBlank(script[start:pos]); strings.TrimSpace(s) != "" {
				statements = append(statements, s)
			}
			if rest == "" {
				return statements, nil
			}
			rest, start = rest[1:], pos+1
			continue
		}
		_, n, err := nextToken(rest)
		if err != nil {
			return nil, err
		}
		rest = rest[n:]
	}
}
