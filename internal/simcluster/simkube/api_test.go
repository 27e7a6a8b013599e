package simkube

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// get asks a stand-in without kubectl.
func get(t *testing.T, s *Server, path string) (int, object) {
	t.Helper()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	var o object
	if err := json.Unmarshal(w.Body.Bytes(), &o); err != nil {
		t.Fatalf("%s: %v\n%s", path, err, w.Body)
	}
	return w.Code, o
}

func TestListsComeInChunks(t *testing.T) {
	s := New(Config{Pods: 10_000})
	seen, next, version := make(map[string]bool), "", ""
	for chunk := 0; ; chunk++ {
		code, o := get(t, s, "/api/v1/pods?limit=700&continue="+next)
		if code != http.StatusOK {
			t.Fatalf("chunk %d: %v", chunk, o)
		}
		if v := str(o, "metadata", "resourceVersion"); version != "" && v != version {
			t.Errorf("chunk %d is of version %s, the first of %s", chunk, v, version)
		} else {
			version = v
		}
		for _, pod := range list(o, "items") {
			name := str(pod, "metadata", "namespace") + "/" + str(pod, "metadata", "name")
			if seen[name] {
				t.Errorf("%s came twice", name)
			}
			seen[name] = true
		}
		s.AddPod("default", fmt.Sprintf("meanwhile-%d", chunk), nil) // sorts before what is still to come
		if next = str(o, "metadata", "continue"); next == "" {
			break
		}
	}
	for i := range 10_000 {
		if name := fmt.Sprintf("bulk/pod-%05d", i); !seen[name] {
			t.Fatalf("%s is missing among %d", name, len(seen))
		}
	}
	if code, o := get(t, s, "/api/v1/pods?continue=nonsense"); code != http.StatusBadRequest {
		t.Errorf("a false token: %d %v", code, o)
	}
}

func TestWatchesResumeAndExpire(t *testing.T) {
	s := New(Config{BookmarkInterval: 10 * time.Millisecond})
	srv := httptest.NewServer(s)
	defer srv.Close()
	_, o := get(t, s, "/api/v1/namespaces/default/pods")
	version := str(o, "metadata", "resourceVersion")
	s.AddPod("default", "fresh", nil)
	path := "/api/v1/namespaces/default/pods?watch=true&allowWatchBookmarks=true&resourceVersion=" + version
	resp, err := http.Get(srv.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	var kinds []string
	for len(kinds) < 2 {
		text, err := lines.ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		var e object
		if err := json.Unmarshal(text, &e); err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, str(e, "type")+" "+str(e, "object", "metadata", "name"))
	}
	if got := strings.Join(kinds, ", "); got != "ADDED fresh, BOOKMARK " {
		t.Errorf("events %s", got)
	}
	s.ForgetHistory()
	if code, o := get(t, s, path); code != http.StatusGone || str(o, "reason") != "Expired" {
		t.Errorf("too old a version: %d %v", code, o)
	}
}

func FuzzDecodeProto(f *testing.F) {
	f.Add([]byte("k8s\x00\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x0b\x0a\x04\x0a\x02c1\x12\x03\x0a\x01a"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		o, err := decodeProto(raw)
		if err == nil && str(o, "kind") == "" {
			t.Error("an object without a kind")
		}
	})
}

func FuzzPatch(f *testing.F) {
	f.Add(`{"spec":{"containers":null,"x":{"y":null}}}`)
	f.Fuzz(func(_ *testing.T, patch string) {
		o := object{"spec": object{"containers": []any{object{"name": "a"}}}}
		var p object
		if json.Unmarshal([]byte(patch), &p) == nil {
			_ = merge(o, p) // it must not panic
		}
	})
}
