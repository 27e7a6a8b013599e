package cluster

import (
	"context"
	"fmt"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/defaults"
	"github.com/gravitational/teleport/api/types"
)

// A cluster may answer without end: what is taken of a list is bounded.
const (
	maxListed = 50_000
	maxPages  = 1_000
)

// TooLongError says that a cluster lists more than berth takes.
type TooLongError struct{ What string }

func (e *TooLongError) Error() string {
	return fmt.Sprintf("the cluster lists more than %d %s, or does not come to an end", maxListed, e.What)
}

// pages asks for one page after the other, each by the key that came with the last.
func pages[T any](what string, page func(key string) (list []T, next string, err error)) ([]T, error) {
	var all []T
	key := ""
	for range maxPages {
		list, next, err := page(key)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
		switch {
		case len(all) > maxListed:
			return nil, &TooLongError{what}
		case next == "":
			return all, nil
		}
		key = next
	}
	return nil, &TooLongError{what}
}

// resourcePages lists the resources of a kind of Teleport's.
func resourcePages[T types.ResourceWithLabels](ctx context.Context, clt *client.Client, what, kind string) ([]T, error) {
	req := &proto.ListResourcesRequest{Namespace: defaults.Namespace, ResourceType: kind}
	return pages(what, func(key string) ([]T, string, error) {
		req.StartKey = key
		page, err := client.GetResourcePage[T](ctx, clt, req)
		return page.Resources, page.NextKey, err
	})
}
