package memory

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"berth/agent/secrets"
)

// StoredSecrets returns the sorted keys of what the keychain holds for logins,
// by the state file of an agent that no longer runs.
func StoredSecrets(stateFile string) ([]secrets.Key, error) {
	raw, err := os.ReadFile(stateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read saved state: %w", err)
	}
	var data contents
	if err := json.Unmarshal(raw, &data); err != nil {
		return nil, fmt.Errorf("read saved state: %w", err)
	}
	var keys []secrets.Key
	for who, kinds := range data.Stored {
		at := strings.LastIndexByte(who, '@') // users may have one in their name
		if at < 0 {
			continue
		}
		for _, kind := range kinds {
			keys = append(keys, secrets.Key{Proxy: who[at+1:], User: who[:at], Kind: secrets.Kind(kind)})
		}
	}
	slices.SortFunc(keys, func(a, b secrets.Key) int {
		return strings.Compare(a.User+"@"+a.Proxy+string(a.Kind), b.User+"@"+b.Proxy+string(b.Kind))
	})
	return keys, nil
}
