package memory

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// What could not be written is written later, without another change.
func TestWritesAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // in the folder's place
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s, _ := Load(filepath.Join(dir, "state.json")) // it cannot be read either
		began := time.Now()
		for _, name := range []string{"pg", "kube"} {
			if err := s.SetStopped(name, true); err == nil {
				t.Error("a change passes for written")
			}
		}
		time.Sleep(3 * retryAfter)
		if since, err := s.Trouble(); err == nil || !since.Equal(began) {
			t.Errorf("Trouble() = %v, %v, want one since %v", since, err, began)
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(retryAfter + time.Second)
		if _, err := s.Trouble(); err != nil {
			t.Errorf("Trouble() = %v after the next try", err)
		}
		if s.again != nil {
			t.Error("it tries on")
		}
		if again, err := Load(s.path); err != nil || !again.Stopped("pg") || !again.Stopped("kube") {
			t.Errorf("the file is read as %+v, %v", again, err)
		}
	})
}
