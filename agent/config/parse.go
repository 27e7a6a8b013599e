package config

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// parseText reads the config in data; path is only for the words of the error,
// which is an *Error with every mistake. An empty file is the default.
func parseText(path string, data []byte) (*Config, error) {
	cfg, _, err := parse(path, data)
	if err != nil {
		return nil, err
	}
	return cfg, nil
}

// Load reads the config file at path. Without a file it returns the default.
// The error is an *Error. Whether the tunnels that its rules name are there shows only
// with the policy: see Check.
func Load(path string) (*Config, error) {
	cfg, _, err := inspect(path)
	return cfg, err
}

// parse is parseText, and returns the tree as well. The error is an *Error; its
// type is error so that nil is nil.
func parse(path string, data []byte) (*Config, *value, error) {
	if len(data) > maxSize {
		return nil, nil, tooLarge(path, int64(len(data)))
	}
	var ms mistakes
	root := readTree(data, &ms)
	if root != nil && (!root.wrong || root.isMap) {
		validate(root, keySpecs(), &ms)
		check(root, &ms)
	}
	if err := ms.err(path); err != nil {
		return nil, nil, err
	}
	if root == nil {
		return Default(), nil, nil
	}
	cfg, err := decode(root)
	if err != nil {
		return nil, nil, &Error{Path: path, Mistakes: []Mistake{{Text: err.Error()}}}
	}
	cfg.path = path
	return cfg, root, nil
}

// readTree returns what data says; nil when it says nothing, or is not YAML.
func readTree(data []byte, ms *mistakes) *value {
	before := len(*ms)
	clean := text(data, ms)
	if len(*ms) > before {
		return nil
	}
	top := parseYAML(clean, ms)
	if top == nil {
		return nil
	}
	b := builder{ms: ms}
	root := b.build(top, "", 0)
	if root.null && !root.wrong {
		return nil
	}
	return root
}

// decode makes a Config of a tree without mistakes.
func decode(root *value) (*Config, error) {
	said := root.json()
	raw, err := json.Marshal(said)
	if err != nil {
		return nil, fmt.Errorf("[unexpected] %w", err)
	}
	cfg := Default()
	if err := json.Unmarshal(raw, cfg); err != nil {
		return nil, fmt.Errorf("[unexpected] %w", err)
	}
	cfg.said, _ = said.(map[string]any) // an empty file says nothing
	return cfg, nil
}

// Check reads the config file at path as Load does, and looks at what the file
// names as well: a rule whose tunnel neither the file has nor the policy ships is a mistake;
// warnings tell of things that a running agent would stumble
// over, such as a ca_file that is not there, and of those that the policy leaves
// without effect.
func Check(path string, policy *Policy) (warnings []Mistake, err error) {
	cfg, root, err := inspectFor(path, policy)
	if err != nil || root == nil {
		return nil, err
	}
	var ms mistakes
	warn(cfg, root, &ms)
	ms = append(ms, policy.overruled(cfg, root)...)
	if e := ms.err(path); e != nil {
		return e.Mistakes, nil
	}
	return nil, nil
}

// Overruled is what the config file at path says and the policy leaves without
// effect. The error is an *Error, as that of Check.
func Overruled(path string, policy *Policy) ([]Mistake, error) {
	cfg, root, err := inspectFor(path, policy)
	if err != nil || root == nil {
		return nil, err
	}
	return policy.overruled(cfg, root), nil
}

// inspect is Load, and returns the tree as well; nil when there is no file, or
// nothing in it.
func inspect(path string) (*Config, *value, error) {
	data, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Default(), nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	return parse(path, data)
}

// inspectFor is inspect for a file that the policy binds.
func inspectFor(path string, policy *Policy) (*Config, *value, error) {
	cfg, root, err := inspect(path)
	if err == nil {
		err = policy.checkFile(path, cfg, root)
	}
	if err != nil {
		return nil, nil, err
	}
	return cfg, root, nil
}

// warn adds what is no mistake, and will not work or should not stay.
func warn(cfg *Config, root *value, ms *mistakes) {
	if homes := root.get("homes"); homes != nil {
		for i, v := range homes.list {
			info, err := os.Stat(expand(cfg.Homes[i]))
			if err == nil && !info.IsDir() {
				ms.add(v.at, fmt.Sprintf("homes[%d]", i), "%s is not a folder", cfg.Homes[i])
			} else if err != nil && !errors.Is(err, fs.ErrNotExist) { // tsh may make it later
				ms.add(v.at, fmt.Sprintf("homes[%d]", i), "the folder cannot be read: %v", err)
			}
		}
	}
	if profiles := root.get("profiles"); profiles != nil {
		for i, v := range profiles.list {
			warnProfile(cfg.Profiles[i], v, fmt.Sprintf("profiles[%d]", i), ms)
		}
	}
	if p := cfg.TSHPath(); p != "" {
		if info, err := os.Stat(p); err != nil {
			ms.add(root.get("tsh").get("path").at, "tsh.path", "tsh cannot be run: %v", err)
		} else if info.IsDir() {
			ms.add(root.get("tsh").get("path").at, "tsh.path", "%s is a folder: name the program in it", p)
		}
	}
}

func warnProfile(p Profile, v *value, path string, ms *mistakes) {
	if p.Insecure {
		ms.add(v.get("insecure").at, path+".insecure", "the web certificate of %s is not verified: for tests only", p.Proxy)
	}
	if p.CAFile == "" {
		return
	}
	if data, err := os.ReadFile(p.CAFilePath()); err != nil {
		ms.add(v.get("ca_file").at, path+".ca_file", "the file cannot be read: %v", err)
	} else if !hasCert(data) {
		ms.add(v.get("ca_file").at, path+".ca_file", "%s holds no PEM certificate", p.CAFile)
	}
}

func hasCert(data []byte) bool { return x509.NewCertPool().AppendCertsFromPEM(data) }
