package kubeconfig

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"berth/proxies/kube"
)

// BrokenError says that a file is no kubeconfig.
type BrokenError struct{ Err error }

func (e *BrokenError) Error() string { return fmt.Sprintf("this is no kubeconfig: %v", e.Err) }

// Unwrap returns the cause.
func (e *BrokenError) Unwrap() error { return e.Err }

// parse reads a kubeconfig, keeping comments and order. Nothing at all is an
// empty one.
func parse(data []byte) (*yaml.Node, error) {
	var file yaml.Node
	if err := yaml.Unmarshal(data, &file); err != nil {
		return nil, &BrokenError{err}
	}
	if file.Kind == 0 || len(file.Content) == 1 && file.Content[0].Tag == "!!null" {
		return mapping("apiVersion", scalar("v1"), "kind", scalar("Config")), nil
	}
	doc := file.Content[0]
	switch {
	case doc.Kind != yaml.MappingNode:
		return nil, &BrokenError{errors.New("it does not consist of keys and values")}
	case get(doc, "kind") != nil && text(get(doc, "kind")) != "Config":
		return nil, &BrokenError{fmt.Errorf("its kind is %q", text(get(doc, "kind")))}
	}
	for _, list := range []string{"clusters", "users", "contexts"} {
		n := get(doc, list)
		if n == nil || n.Tag == "!!null" {
			continue
		}
		if n.Kind != yaml.SequenceNode {
			return nil, &BrokenError{fmt.Errorf("%s, on line %d, is no list", list, n.Line)}
		}
	}
	// What looks right and is not, such as a key given twice.
	var check map[string]any
	if err := file.Decode(&check); err != nil {
		return nil, &BrokenError{err}
	}
	doc.HeadComment = strings.TrimSpace(file.HeadComment + "\n" + doc.HeadComment)
	return doc, nil
}

func scalar(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	return n
}

// mapping makes a mapping of keys and nodes.
func mapping(pairs ...any) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for i := 0; i+1 < len(pairs); i += 2 {
		put(n, pairs[i].(string), pairs[i+1].(*yaml.Node))
	}
	return n
}

// get returns the value of a key; nil when there is none.
func get(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// put sets the value of a key.
func put(n *yaml.Node, key string, value *yaml.Node) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content[i+1] = value
			return
		}
	}
	n.Content = append(n.Content, scalar(key), value)
}

// drop removes keys and their values.
func drop(n *yaml.Node, keys ...string) {
	for i := 0; i+1 < len(n.Content); {
		if slices.Contains(keys, n.Content[i].Value) {
			n.Content = slices.Delete(n.Content, i, i+2)
		} else {
			i += 2
		}
	}
}

func text(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.Value
}

// sequence returns the list of a key, made when it is not there.
func sequence(doc *yaml.Node, key string) *yaml.Node {
	if n := get(doc, key); n != nil && n.Kind == yaml.SequenceNode {
		if len(n.Content) == 0 {
			n.Style = 0 // "[]" is written in one line, and so would be what is added
		}
		return n
	}
	n := &yaml.Node{Kind: yaml.SequenceNode}
	put(doc, key, n)
	return n
}

// index is where in a list the entry of that name is; -1 when nowhere.
func index(seq *yaml.Node, name string) int {
	for i, e := range seq.Content {
		if text(get(e, "name")) == name {
			return i
		}
	}
	return -1
}

// entry returns the entry of that name in a list of doc; nil when there is
// none.
func entry(doc *yaml.Node, list, name string) *yaml.Node {
	seq := get(doc, list)
	if seq == nil || seq.Kind != yaml.SequenceNode {
		return nil
	}
	if i := index(seq, name); i >= 0 {
		return seq.Content[i]
	}
	return nil
}

func serverNameOfOurs(name string) bool { return strings.HasSuffix(name, "."+kube.Domain) }
