package kubeconfig

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/tools/clientcmd/api/latest"
)

// errOthers says that a change would have changed what is not berth's.
var errOthers = errors.New("[unexpected] the change would have touched entries that are not berth's")

// check has Kubernetes' own code read a kubeconfig before and after a change:
// both must be one, and differ in berth's entries only. Nil means no file.
func check(before, after []byte) error {
	was, err := decode(before)
	if err != nil {
		return &BrokenError{err}
	}
	is, err := decode(after)
	if err != nil {
		return fmt.Errorf("[unexpected] what would have been written is no kubeconfig: %w", err)
	}
	// Entries that a merge removes are berth's in before, those it adds in after.
	var ours, contexts []string
	for _, data := range [][]byte{before, after} {
		doc, err := parse(data)
		if err != nil {
			return err
		}
		for _, name := range names(doc) {
			ours = append(ours, name)
			for _, e := range contextsOf(doc, name) {
				if isOwn(e, name) {
					contexts = append(contexts, text(get(e, "name")))
				}
			}
		}
	}
	for _, cfg := range []*api.Config{was, is} {
		maps.DeleteFunc(cfg.Clusters, func(name string, _ *api.Cluster) bool { return slices.Contains(ours, name) })
		maps.DeleteFunc(cfg.AuthInfos, func(name string, _ *api.AuthInfo) bool { return slices.Contains(ours, name) })
		maps.DeleteFunc(cfg.Contexts, func(name string, _ *api.Context) bool { return slices.Contains(contexts, name) })
	}
	if !reflect.DeepEqual(was, is) {
		return errOthers
	}
	return nil
}

// decode reads a kubeconfig as kubectl does. An empty one is one too.
func decode(data []byte) (*api.Config, error) {
	cfg := api.NewConfig()
	if len(data) == 0 {
		return cfg, nil
	}
	kind := latest.ExternalVersion.WithKind("Config")
	read, _, err := latest.Codec.Decode(data, &kind, cfg)
	if err != nil {
		return nil, err
	}
	cfg, ok := read.(*api.Config)
	if !ok {
		return nil, fmt.Errorf("it is a %T", read)
	}
	return cfg, nil
}
