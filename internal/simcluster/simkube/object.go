package simkube

import (
	"encoding/json"
	"reflect"
	"strings"
)

// metaOf returns an object's metadata, making it where there is none.
func metaOf(o object) object {
	meta, ok := o["metadata"].(object)
	if !ok {
		meta = object{}
		o["metadata"] = meta
	}
	return meta
}

// at walks down an object and returns what is there, nil if nothing is.
func at(o any, path ...string) any {
	for _, p := range path {
		m, ok := o.(object)
		if !ok {
			return nil
		}
		o = m[p]
	}
	return o
}

// str returns the string at a path; empty means none.
func str(o any, path ...string) string {
	s, _ := at(o, path...).(string)
	return s
}

// list returns the list at a path; nil means none.
func list(o any, path ...string) []any {
	l, _ := at(o, path...).([]any)
	return l
}

// number returns a JSON number, or the int a caller put in its place.
func number(v any) int {
	switch n := v.(type) {
	case float64:
		return int(n)
	case int:
		return n
	default:
		return 0
	}
}

func labelsOf(meta object) map[string]string {
	labels, _ := meta["labels"].(object)
	m := make(map[string]string, len(labels))
	for k, v := range labels {
		if s, ok := v.(string); ok {
			m[k] = s
		}
	}
	return m
}

// clone returns a deep copy, with every number as JSON has it.
func clone[T any](v T) T {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // it came from JSON
	}
	var c T
	if err := json.Unmarshal(raw, &c); err != nil {
		panic(err)
	}
	return c
}

func same(a, b any) bool { return reflect.DeepEqual(clone(a), clone(b)) }

// matchesLabels reports whether labels satisfy a label selector.
func matchesLabels(selector string, labels map[string]string) (bool, error) {
	for _, req := range splitSelector(selector) {
		ok, err := matchesLabel(req, labels)
		if err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

func matchesLabel(req string, labels map[string]string) (bool, error) {
	if head, values, ok := strings.Cut(req, "("); ok {
		words := strings.Fields(head)
		if len(words) != 2 || (words[1] != "in" && words[1] != "notin") {
			return false, badRequest("unable to parse requirement: " + req)
		}
		value, present := labels[words[0]]
		in := false
		for v := range strings.SplitSeq(strings.TrimSuffix(values, ")"), ",") {
			in = in || (present && strings.TrimSpace(v) == value)
		}
		return in == (words[1] == "in"), nil
	}
	if k, v, ok := strings.Cut(req, "!="); ok {
		return labels[strings.TrimSpace(k)] != strings.TrimSpace(v), nil
	}
	if k, v, ok := strings.Cut(req, "="); ok {
		value, present := labels[strings.TrimSpace(k)]
		return present && value == strings.TrimSpace(strings.TrimPrefix(v, "=")), nil
	}
	if k, ok := strings.CutPrefix(req, "!"); ok {
		_, present := labels[k]
		return !present, nil
	}
	_, present := labels[req]
	return present, nil
}

// splitSelector splits at the commas that are not within parentheses.
func splitSelector(selector string) []string {
	var reqs []string
	depth, start := 0, 0
	for i, c := range selector + "," {
		switch {
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ',' && depth == 0:
			if req := strings.TrimSpace(selector[start:i]); req != "" {
				reqs = append(reqs, req)
			}
			start = i + 1
		}
	}
	return reqs
}

// matchesFields reports whether an object satisfies a field selector.
func matchesFields(selector string, o object) (bool, error) {
	for _, req := range splitSelector(selector) {
		k, v, ok := strings.Cut(req, "=")
		if !ok {
			return false, badRequest("invalid field selector: " + req)
		}
		k, not := strings.CutSuffix(k, "!")
		v = strings.TrimPrefix(v, "=")
		if (str(o, strings.Split(k, ".")...) == v) == not {
			return false, nil
		}
	}
	return true, nil
}
