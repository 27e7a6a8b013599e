package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"aead.dev/minisign"
)

// publication is what makes a release of a build: it is checked before, and
// signed and described afterwards.
type publication struct {
	*release
	tag                   string // v1.2.3
	keyFile, passwordFile string // of minisign; empty for a pre-release that is not signed
	downloads             string // where the files will be

	key   *minisign.PrivateKey
	notes string // of this version, from the changelog
}

var tagForm = regexp.MustCompile(`^v\d+\.\d+\.\d+(?:-[0-9A-Za-z]+(?:\.[0-9A-Za-z]+)*)?$`)

// prepare looks for everything that would make the release a bad one, before
// minutes are spent on it. A pre-release (v1.2.3-rc.1) may lack a section of its
// own, a key and an address for reports.
func (p *publication) prepare(ctx context.Context) error {
	if !tagForm.MatchString(p.tag) {
		return fmt.Errorf("-release %q: a version is v1.2.3, or v1.2.3-rc.1 for a pre-release", p.tag)
	}
	final := !strings.Contains(p.tag, "-")
	if err := p.checkSource(ctx); err != nil {
		return err
	}
	changes, err := os.ReadFile(filepath.Join(p.root, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	if p.notes, err = notesOf(string(changes), strings.TrimPrefix(p.tag, "v"), final); err != nil {
		return err
	}
	if final {
		if err := p.checkOwner(); err != nil {
			return err
		}
	}
	if err := p.readKey(final); err != nil {
		return err
	}
	if p.homepage == "" {
		p.homepage = "https://berth.invalid"
	}
	if p.downloads == "" {
		p.downloads = strings.TrimSuffix(p.homepage, "/") + "/releases/download/" + p.tag
	}
	return nil
}

// checkSource takes the version from the tag to be made, and refuses a source that
// a checkout of the tag would not give.
func (p *publication) checkSource(ctx context.Context) error {
	changed, err := git(ctx, p.root, "status", "--porcelain")
	if err != nil {
		return err
	}
	if changed != "" {
		return fmt.Errorf("the source has changes that are in no commit:\n%s", changed)
	}
	head, err := git(ctx, p.root, "rev-parse", "HEAD")
	if err != nil {
		return err
	}
	if tagged, err := git(ctx, p.root, "rev-list", "-n", "1", p.tag); err == nil && tagged != head {
		return fmt.Errorf("the tag %s is at %.12s, and this is %.12s", p.tag, tagged, head)
	}
	p.version, err = parseVersion(p.tag+"-0-g"+head[:12], p.epoch)
	return err
}

// checkOwner refuses to publish without a maintainer's address.
func (p *publication) checkOwner() error {
	policy, err := os.ReadFile(filepath.Join(p.root, "SECURITY.md"))
	if err != nil {
		return err
	}
	switch {
	case bytes.Contains(policy, []byte(".invalid")):
		return errors.New("SECURITY.md has no address for reports: put one into the line SECURITY_CONTACT=")
	case strings.Contains(p.maintainer, ".invalid"):
		return errors.New("no MAINTAINER: packages must name who answers for them")
	case p.homepage == "":
		return errors.New("no HOMEPAGE: manifests must name where the files are")
	}
	return nil
}

func (p *publication) readKey(final bool) error {
	if p.keyFile == "" {
		if final {
			return errors.New("no MINISIGN_KEY: a release is signed")
		}
		fmt.Println("dist: NOT SIGNED: no MINISIGN_KEY")
		return nil
	}
	raw, err := os.ReadFile(p.keyFile)
	if err != nil {
		return err
	}
	var key minisign.PrivateKey
	if !minisign.IsEncrypted(raw) {
		err = key.UnmarshalText(raw)
	} else if p.passwordFile == "" {
		return fmt.Errorf("the key %s has a password: name a file that has it as MINISIGN_PASSWORD", p.keyFile)
	} else {
		var password []byte
		if password, err = os.ReadFile(p.passwordFile); err == nil {
			key, err = minisign.DecryptKey(strings.TrimRight(string(password), "\r\n"), raw)
		}
	}
	if err != nil {
		return fmt.Errorf("the minisign key: %w", err)
	}
	p.key = &key
	return nil
}

// publicKey is the key as people paste it; empty without one.
func (p *publication) publicKey() string {
	if p.key == nil {
		return ""
	}
	return p.key.Public().(minisign.PublicKey).String()
}

// notesOf returns a version's section of the changelog, without links to pages
// of the source. Without one a pre-release gets what is unreleased.
func notesOf(changes, version string, final bool) (string, error) {
	names := []string{version}
	if !final {
		names = append(names, "Unreleased")
	}
	for _, name := range names {
		for section := range strings.SplitSeq("\n"+changes, "\n## ") {
			heading, text, _ := strings.Cut(section, "\n")
			heading = strings.Trim(strings.Fields(heading + " -")[0], "[]")
			if heading == name && strings.TrimSpace(text) != "" {
				return unlinked(strings.TrimSpace(text)), nil
			}
		}
	}
	return "", fmt.Errorf("CHANGELOG.md has no section %q", "## ["+version+"]")
}

// howToCheck is how people check the list of checksums.
func (p *publication) howToCheck() string {
	if p.key == nil {
		return "`SHA256SUMS` has the checksum of each file. This pre-release is not signed:\n"
	}
	return "`SHA256SUMS` has the checksum of each file and is signed with minisign:\n\n    minisign -V -P " + p.publicKey() + " -m SHA256SUMS"
}

//go:embed notes.md.tmpl
var notesText string

// finish adds to a build what a release has besides: the script that installs
// it, notes, manifests, and a signature of the checksums.
func (p *publication) finish() error {
	script, err := os.ReadFile(filepath.Join(p.root, "packaging", "install.sh"))
	if err != nil {
		return err
	}
	filled := strings.NewReplacer("@VERSION@", p.version.semver(), "@BASE@", p.downloads, "@PUBLIC_KEY@", p.publicKey()).Replace(string(script))
	if err := place(p.out, "install.sh", []byte(filled)); err != nil {
		return err
	}
	if err := p.writeManifests(); err != nil {
		return err
	}
	if err := p.writeSums(); err != nil {
		return err
	}
	notes := strings.NewReplacer("@NOTES@", p.notes, "@VERSION@", p.version.semver(), "@TAG@", p.tag, "@GO@", runtime.Version(),
		"@MAINTAINER@", p.maintainer, "@HOMEPAGE@", p.homepage, "@SIGNED@", p.howToCheck()).Replace(notesText)
	if err := place(p.out, "RELEASE-NOTES.md", []byte(notes)); err != nil {
		return err
	}
	if p.key == nil {
		return nil
	}
	sums, err := os.ReadFile(filepath.Join(p.out, sumsFile))
	if err != nil {
		return err
	}
	signature := minisign.SignWithComments(*p.key, sums, "berth "+p.tag+" "+sumsFile, "signature of berth "+p.tag)
	return place(p.out, sumsFile+".minisig", signature)
}
