package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
)

//go:embed berth.wxs.tmpl
var wxsText string

var wxsTemplate = template.Must(template.New("berth.wxs").Parse(wxsText))

// writeMSI builds the installer for Windows: for one user, without an
// administrator.
func (r *release) writeMSI(ctx context.Context, program string) error {
	wixl, err := exec.LookPath("wixl")
	if err != nil {
		fmt.Println("dist: NO MSI: wixl is not installed (Debian's package wixl has it)")
		return nil
	}
	dir := filepath.Join(filepath.Dir(program), "msi")
	// wixl wants everything beside the source, whose text is otherwise fixed.
	for name, from := range map[string]string{
		"berth.exe": program, "berth.ico": r.common("icons", "berth.ico"), "LICENSE.txt": filepath.Join(r.root, "LICENSE"),
		"THIRD_PARTY_LICENSES.txt": r.notices(), "berth-completion.ps1": r.common("completions", "berth.ps1"),
	} {
		data, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := place(dir, name, data); err != nil {
			return err
		}
		// The installer notes when its files were changed.
		if err := os.Chtimes(filepath.Join(dir, name), r.epoch, r.epoch); err != nil {
			return err
		}
	}
	var source bytes.Buffer
	manufacturer, _, _ := strings.Cut(r.maintainer, " <")
	if err := wxsTemplate.Execute(&source, map[string]string{"Version": r.version.base, "Manufacturer": manufacturer}); err != nil {
		return err
	}
	if err := place(dir, "berth.wxs", source.Bytes()); err != nil {
		return err
	}
	out := filepath.Join(r.out, fmt.Sprintf("berth_%s_windows_amd64.msi", r.version.semver()))
	_, err = r.command(ctx, dir, nil, wixl, "--arch", "x64", "--output", out, "berth.wxs")
	return err
}
