package autostart

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/windows/registry"
)

const classes = `Software\Classes\`

// InstallLinks has Windows hand berth links to the program at a path, for this user.
func InstallLinks(_ context.Context, program string, _ func(string) string) (Result, error) {
	r := Result{Path: `HKCU\` + classes + scheme}
	for _, v := range linkClass(program) {
		key, _, err := registry.CreateKey(registry.CURRENT_USER, classes+v.key, registry.QUERY_VALUE|registry.SET_VALUE)
		if err != nil {
			return r, fmt.Errorf("open the registry's entry for links: %w", err)
		}
		old, _, err := key.GetStringValue(v.name)
		if err != nil || old != v.text {
			r.Changed = true
			err = key.SetStringValue(v.name, v.text)
		}
		if err = errors.Join(err, key.Close()); err != nil {
			return r, fmt.Errorf("write the registry's entry for links: %w", err)
		}
	}
	return r, nil
}

// UninstallLinks takes that back.
func UninstallLinks(context.Context, func(string) string) (Result, error) {
	r := Result{Path: `HKCU\` + classes + scheme}
	for _, below := range []string{`\shell\open\command`, `\shell\open`, `\shell`, ""} {
		err := registry.DeleteKey(registry.CURRENT_USER, classes+scheme+below)
		switch {
		case err == nil:
			r.Changed = true
		case !errors.Is(err, registry.ErrNotExist):
			return r, fmt.Errorf("remove the registry's entry for links: %w", err)
		}
	}
	return r, nil
}
