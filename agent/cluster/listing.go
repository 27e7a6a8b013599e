package cluster

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gravitational/teleport/api/client"
	"golang.org/x/sync/singleflight"
)

const (
	// listTTL is how long a listing is good for: long enough that fifty
	// tunnels starting together ask once, short enough that a database
	// added just now is found by the next attempt.
	listTTL = 15 * time.Second
	// missTTL is how long a listing is good for that lacks what was asked
	// for: people ask again when something was added just now.
	missTTL = time.Second
)

// recent caches the clusters' last answers; callers at the same time share one
// question. The zero value is ready to use.
type recent[T any] struct {
	flight singleflight.Group

	mu   sync.Mutex          // guards said
	said map[string]dated[T] // by cluster name
}

type dated[T any] struct {
	at time.Time
	v  T
}

// get returns what the cluster said maxAge ago at most, or has fetch ask it.
func (r *recent[T]) get(clusterName string, maxAge time.Duration, fetch func() (T, error)) (T, error) {
	said := func() (T, bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		last, ok := r.said[clusterName]
		return last.v, ok && time.Since(last.at) < maxAge
	}
	if v, ok := said(); ok {
		return v, nil
	}
	v, err, _ := r.flight.Do(clusterName, func() (any, error) {
		if v, ok := said(); ok { // another's question was answered since
			return v, nil
		}
		v, err := fetch()
		if err != nil {
			return v, err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.said == nil {
			r.said = make(map[string]dated[T])
		}
		r.said[clusterName] = dated[T]{at: time.Now(), v: v}
		return v, nil
	})
	return v.(T), err
}

// listing lists the clusters' resources of one kind.
type listing[T any] struct {
	kind string // in the plural
	name func(T) string
	// fetch asks a cluster; several services may carry the same resource.
	fetch  func(ctx context.Context, clt *client.Client) ([]T, error)
	recent recent[[]T] // by name, each once
}

// all returns what a cluster offers, by name, as of maxAge ago at most.
func (l *listing[T]) all(ctx context.Context, c *Cluster, clusterName string, maxAge time.Duration) ([]T, error) {
	return l.recent.get(clusterName, maxAge, func() (list []T, err error) {
		err = c.call(context.WithoutCancel(ctx), clusterName, "list "+l.kind+" of "+clusterName, func(ctx context.Context, clt *client.Client) (err error) {
			list, err = l.fetch(ctx, clt)
			return err
		})
		byName := func(a, b T) int { return strings.Compare(l.name(a), l.name(b)) }
		slices.Reverse(list) // what was said last counts
		slices.SortStableFunc(list, byName)
		return slices.CompactFunc(list, func(a, b T) bool { return byName(a, b) == 0 }), err
	})
}

// one returns the cluster's resource of that name. When there is none, ok is
// false and like is the most similar name, if any is similar.
func (l *listing[T]) one(ctx context.Context, c *Cluster, clusterName, name string) (v T, like string, ok bool, err error) {
	named := func(v T) bool { return l.name(v) == name }
	list, err := l.all(ctx, c, clusterName, listTTL)
	if err == nil && !slices.ContainsFunc(list, named) {
		list, err = l.all(ctx, c, clusterName, missTTL) // it may have been added since
	}
	if err != nil {
		return v, "", false, err
	}
	if i := slices.IndexFunc(list, named); i >= 0 {
		return list[i], "", true, nil
	}
	names := make([]string, len(list))
	for i, v := range list {
		names[i] = l.name(v)
	}
	return v, similar(name, names), false, nil
}

// similar returns the listed name that shares the longest run with name at its
// start or end, if that run is at least half of it.
func similar(name string, listed []string) string {
	best, bestLen := "", (len(name)+1)/2
	for _, other := range listed {
		if n := max(sharedPrefix(name, other), sharedSuffix(name, other)); n >= bestLen {
			best, bestLen = other, n+1
		}
	}
	return best
}

func sharedPrefix(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func sharedSuffix(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}
