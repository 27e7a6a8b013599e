package metrics

import (
	"net/url"
	"testing"

	"berth/internal/testwait"
)

func TestMain(m *testing.M) { testwait.NoLeaks(m) }

func mustURL(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
