package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// writeSBOM writes the bill of materials of a program, from what Go notes in
// it: what is really in there, not what go.mod names.
func (r *release) writeSBOM(t target, program string) error {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return fmt.Errorf("read what the program is made of: %w", err)
	}
	deps, err := os.ReadFile(filepath.Join(r.root, "cmd", "berth", "deps.txt"))
	if err != nil {
		return err
	}
	if odd := unread(info, string(deps)); len(odd) > 0 {
		return fmt.Errorf("%s links what cmd/berth/deps.txt does not list: %s", program, strings.Join(odd, ", "))
	}
	data, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	bom := billOf(info, r.version.semver(), sum, r.epoch)
	f, err := os.Create(filepath.Join(r.out, fmt.Sprintf("berth_%s_%s_%s.cdx.json", r.version.semver(), t.os, t.arch)))
	if err != nil {
		return err
	}
	err = cdx.NewBOMEncoder(f, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
	return errors.Join(err, f.Close())
}

// unread returns the modules in a program that are not in the list of those that
// were read in review.
func unread(info *debug.BuildInfo, list string) []string {
	known := strings.Fields(list)
	var odd []string
	for _, m := range info.Deps {
		if !slices.Contains(known, m.Path) {
			odd = append(odd, m.Path)
		}
	}
	return odd
}

// billOf is the bill of materials of the program with a checksum. Its serial
// number is made from that, so that the same program has the same bill.
func billOf(info *debug.BuildInfo, version string, sum [32]byte, at time.Time) *cdx.BOM {
	bom := cdx.NewBOM()
	bom.SerialNumber = serial(sum)
	root := cdx.Component{
		BOMRef: "berth", Type: cdx.ComponentTypeApplication, Name: "berth", Version: version,
		Hashes:   &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}},
		Licenses: &cdx.Licenses{{License: &cdx.License{ID: "Apache-2.0"}}},
	}
	bom.Metadata = &cdx.Metadata{Timestamp: at.Format(time.RFC3339), Component: &root}
	components := []cdx.Component{{
		BOMRef: "pkg:golang/std@" + info.GoVersion, Type: cdx.ComponentTypeLibrary, Name: "std", Version: info.GoVersion,
		PackageURL: "pkg:golang/std@" + info.GoVersion,
	}}
	refs := []string{components[0].BOMRef}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		url := "pkg:golang/" + m.Path + "@" + m.Version
		refs = append(refs, url)
		components = append(components, cdx.Component{
			BOMRef: url, Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, PackageURL: url,
			Properties: &[]cdx.Property{{Name: "go:sum", Value: m.Sum}},
		})
	}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: root.BOMRef, Dependencies: &refs}}
	return bom
}

// serial makes a UUID of a checksum, of the version for such.
func serial(sum [32]byte) string {
	u := [16]byte(sum[:16])
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
