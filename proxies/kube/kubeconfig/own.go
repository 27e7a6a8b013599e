package kubeconfig

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"
)

// staleLock is the age after which a lock of berth's own kubeconfig no longer
// counts: its holder was killed.
const staleLock = 30 * time.Second

// Update makes berth's own kubeconfig, at path, say these contexts. What other
// programs wrote into it stays, such as the current context, unless it has gone.
// What is no kubeconfig any longer is replaced.
func Update(ctx context.Context, path string, contexts []Context) error {
	return editOwn(ctx, path, func(doc *yaml.Node) {
		var wanted []string
		for _, c := range contexts {
			wanted = append(wanted, ContextName(c.Name))
		}
		had := contextNames(doc)
		remove(doc, slices.DeleteFunc(names(doc), func(n string) bool { return slices.Contains(wanted, n) }))
		add(doc, contexts)
		current := text(get(doc, "current-context"))
		if slices.Contains(had, current) && !slices.Contains(contextNames(doc), current) {
			drop(doc, "current-context")
		}
	})
}

// Adopt puts into berth's own kubeconfig, at path, what a program has written
// about the tunnel into the one that Select made for it: used, which was before.
func Adopt(ctx context.Context, path, tunnel string, before, used []byte) error {
	if bytes.Equal(before, used) {
		return nil
	}
	doc, err := parse(used)
	if err != nil {
		return err
	}
	name := ContextName(tunnel)
	contexts := contextsOf(doc, name)
	if len(contexts) == 0 {
		return nil // deleted by the program: berth's own stays
	}
	return editOwn(ctx, path, func(own *yaml.Node) {
		cluster := get(entry(own, "clusters", name), "cluster")
		if cluster == nil {
			return // the tunnel has gone meanwhile
		}
		adoptCluster(cluster, get(entry(doc, "clusters", name), "cluster"))
		list := sequence(own, "contexts")
		list.Content = slices.DeleteFunc(list.Content, func(e *yaml.Node) bool {
			return text(get(get(e, "context"), "cluster")) == name
		})
		list.Content = append(list.Content, contexts...)
	})
}

// adoptCluster takes over what is not berth's.
func adoptCluster(own, used *yaml.Node) {
	if used == nil || used.Kind != yaml.MappingNode {
		return
	}
	kept := &yaml.Node{Kind: yaml.MappingNode}
	for i := 0; i+1 < len(own.Content); i += 2 {
		if slices.Contains(clusterKeys, own.Content[i].Value) {
			kept.Content = append(kept.Content, own.Content[i], own.Content[i+1])
		}
	}
	for i := 0; i+1 < len(used.Content); i += 2 {
		if key := used.Content[i].Value; !slices.Contains(clusterKeys, key) {
			put(kept, key, used.Content[i+1])
		}
	}
	own.Content = kept.Content
}

func contextNames(doc *yaml.Node) []string {
	var list []string
	if seq := get(doc, "contexts"); seq != nil {
		for _, e := range seq.Content {
			list = append(list, text(get(e, "name")))
		}
	}
	return list
}

// editOwn changes berth's own kubeconfig, which only its owner may read.
func editOwn(ctx context.Context, path string, change func(doc *yaml.Node)) error {
	if info, err := os.Stat(path + ".lock"); err == nil && time.Since(info.ModTime()) > staleLock {
		if err := os.Remove(path + ".lock"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return edit(ctx, path, func(f file) (next, error) {
		doc, err := parse(f.data)
		if err != nil {
			doc = mapping("apiVersion", scalar("v1"), "kind", scalar("Config"))
		}
		was := encode(doc)
		change(doc)
		is := encode(doc)
		if f.there && err == nil && bytes.Equal(was, is) && !f.exposed {
			return next{}, nil
		}
		return next{write: true, data: is, private: true}, nil
	})
}
