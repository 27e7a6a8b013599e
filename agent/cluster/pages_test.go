package cluster

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

// TestListsAreBounded: a list of as much as berth takes is whole, and one that is
// longer, or never ends, is an error.
func TestListsAreBounded(t *testing.T) {
	const page = 1000
	listing := func(total int) ([]int, error) {
		return pages("things", func(key string) ([]int, string, error) {
			at := 0
			_, _ = fmt.Sscan(key, &at) // the first key is empty
			list := slices.Repeat([]int{7}, min(page, total-at))
			if at += len(list); at < total {
				return list, fmt.Sprint(at), nil
			}
			return list, "", nil
		})
	}
	if all, err := listing(maxListed); err != nil || len(all) != maxListed {
		t.Errorf("of %d there are %d, %v", maxListed, len(all), err)
	}
	endless, asked := 0, 0
	_, overErr := listing(maxListed + 1)
	_, emptyErr := pages("things", func(string) ([]int, string, error) { endless++; return nil, "on", nil })
	_, sameErr := pages("things", func(string) ([]int, string, error) { asked++; return make([]int, page), "on", nil })
	for what, err := range map[string]error{"one too many": overErr, "empty pages": emptyErr, "the same page": sameErr} {
		if tooLong, ok := errors.AsType[*TooLongError](err); !ok || tooLong.What != "things" {
			t.Errorf("%s: %v", what, err)
		}
	}
	if endless != maxPages || asked > maxListed/page+1 {
		t.Errorf("it was asked %d and %d times", endless, asked)
	}
}
