package config

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"sync"
	"unicode/utf8"
)

// broken is the word of the schema that a value does not keep to.
type broken int

const (
	notBroken broken = iota
	brokenType
	brokenEnum
	brokenMinLength
	brokenMaxLength
	brokenRange // of a number, of a list's length, or of a pattern
)

// obey adds a mistake for everything in v that spec refuses. A key that is empty
// counts as one left out.
//
// It is the schema's own checker because the library that checks any schema
// prepares itself for a third of what a command of berth may take.
func obey(v *value, spec keySpec, path string, ms *mistakes) {
	if v.wrong {
		return
	}
	if why := spec.breaks(v); why != notBroken {
		v.wrong = true
		ms.add(v.at, path, "%s", refusal(v, generic(path), spec, why))
		return
	}
	for i, e := range v.list {
		if spec.Items != nil {
			obey(e, *spec.Items, fmt.Sprintf("%s[%d]", path, i), ms)
		}
	}
	if !v.isMap {
		return
	}
	var unknown, missing []string
	for _, m := range v.keys {
		sub, known := spec.Properties[m.name]
		switch {
		case m.val.null:
		case known:
			obey(m.val, sub, join(path, m.name), ms)
		default:
			unknown = append(unknown, m.name)
		}
	}
	for _, name := range spec.Required {
		if m := v.byName[name]; m == nil || m.val.null {
			missing = append(missing, name)
		}
	}
	explainUnknown(v, path, spec, unknown, ms)
	explainMissing(v, path, spec, missing, ms)
}

// breaks returns the first word of the schema that v itself does not keep to.
func (k keySpec) breaks(v *value) broken {
	number, isNumber := numberOf(v.scalar)
	text, isText := v.scalar.(string)
	switch {
	case !k.isOfType(v):
		return brokenType
	case k.Enum != nil && !slices.ContainsFunc(k.Enum, func(e any) bool {
		if n, ok := numberOf(e); ok {
			return isNumber && n == number
		}
		return e == v.scalar
	}):
		return brokenEnum
	case isText && utf8.RuneCountInString(text) < k.MinLength:
		return brokenMinLength
	case isText && k.MaxLength != nil && utf8.RuneCountInString(text) > *k.MaxLength:
		return brokenMaxLength
	case isText && k.Pattern != "" && !pattern(k.Pattern).MatchString(text),
		isNumber && k.Minimum != nil && number < *k.Minimum,
		isNumber && k.Maximum != nil && number > *k.Maximum,
		v.isList && len(v.list) < k.MinItems:
		return brokenRange
	}
	return notBroken
}

func (k keySpec) isOfType(v *value) bool {
	number, isNumber := numberOf(v.scalar)
	_, isText := v.scalar.(string)
	_, isBool := v.scalar.(bool)
	switch k.Type {
	case "object":
		return v.isMap
	case "array":
		return v.isList
	case "string":
		return isText
	case "boolean":
		return isBool
	case "integer":
		return isNumber && number == math.Trunc(number)
	default:
		panic(fmt.Sprintf("[unexpected] config schema: type %q", k.Type))
	}
}

func numberOf(scalar any) (float64, bool) {
	switch n := scalar.(type) {
	case int64:
		return float64(n), true
	case uint64:
		return float64(n), true
	case float64:
		return n, true
	default:
		return 0, false
	}
}

var patterns sync.Map // of regular expressions, by their text

func pattern(text string) *regexp.Regexp {
	if re, ok := patterns.Load(text); ok {
		return re.(*regexp.Regexp)
	}
	re, _ := patterns.LoadOrStore(text, regexp.MustCompile(text))
	return re.(*regexp.Regexp)
}
