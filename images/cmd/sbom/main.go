// Command sbom writes the bill of materials of a release as CycloneDX JSON: the
// Go modules of its programs and the Debian packages that its kernel and
// modules are taken from. The same files give the same bytes.
package main

import (
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

func main() {
	tools := flag.String("tools", "build/tools", "root that the kernel was taken from")
	packages := flag.String("packages", "linux-image-", "prefixes of the Debian packages that files were taken from, with commas")
	out := flag.String("out", "sbom.cdx.json", "file to write")
	flag.Parse()
	if err := run(flag.Args(), *tools, strings.Split(*packages, ","), *out); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

// run writes the bill of these files: Go programs among them are opened.
func run(files []string, tools string, prefixes []string, out string) error {
	all := map[string]cdx.Component{}
	for _, path := range files {
		c, err := file(path)
		if err != nil {
			return err
		}
		all[c.BOMRef] = c
		if err := modules(path, all); err != nil {
			return err
		}
	}
	if err := debian(tools, prefixes, all); err != nil {
		return err
	}
	list := make([]cdx.Component, 0, len(all))
	for _, c := range all {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b cdx.Component) int { return strings.Compare(a.BOMRef, b.BOMRef) })
	bom := cdx.NewBOM()
	bom.Components = &list
	bom.Metadata = &cdx.Metadata{Component: &cdx.Component{Type: cdx.ComponentTypeApplication, Name: "ingot", BOMRef: "ingot"}}
	f, err := os.Create(out)
	if err != nil {
		return fmt.Errorf("write the bill of materials: %w", err)
	}
	err = cdx.NewBOMEncoder(f, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
	return errors.Join(err, f.Close())
}

// file is one file of the release, by its digest.
func file(path string) (cdx.Component, error) {
	f, err := os.Open(path)
	if err != nil {
		return cdx.Component{}, fmt.Errorf("read a file of the release: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return cdx.Component{}, fmt.Errorf("read %s: %w", path, err)
	}
	name := filepath.Base(path)
	return cdx.Component{Type: cdx.ComponentTypeFile, Name: name, BOMRef: "file:" + name,
		Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(h.Sum(nil))}}}, nil
}

// modules adds the Go modules that a program is built from; another file has
// none.
func modules(path string, all map[string]cdx.Component) error {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return nil //nolint:nilerr // a kernel, an archive
	}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		c := cdx.Component{Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, PackageURL: "pkg:golang/" + m.Path + "@" + m.Version}
		c.BOMRef = c.PackageURL
		if sum, ok := strings.CutPrefix(m.Sum, "h1:"); ok {
			raw, err := base64.StdEncoding.DecodeString(sum)
			if err != nil {
				return fmt.Errorf("read %s: sum of %s: %w", path, m.Path, err)
			}
			c.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(raw)}}
		}
		all[c.BOMRef] = c
	}
	c := cdx.Component{Type: cdx.ComponentTypePlatform, Name: "go", Version: info.GoVersion, BOMRef: "pkg:generic/" + info.GoVersion}
	all[c.BOMRef] = c
	return nil
}

// entry is the first line of a Debian changelog: source (version) suite; …
var entry = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]* \(([^)]+)\) `)

// debian adds the packages of the root whose names begin so. A root that was
// only unpacked has no list of packages; each brings its changelog.
func debian(root string, prefixes []string, all map[string]cdx.Component) error {
	found := 0
	for _, prefix := range prefixes {
		docs, err := filepath.Glob(filepath.Join(root, "usr/share/doc", prefix+"*"))
		if err != nil {
			return fmt.Errorf("look for packages: %w", err)
		}
		for _, dir := range docs {
			version, err := packageVersion(dir)
			if err != nil {
				return err
			}
			if version == "" {
				continue
			}
			found++
			name := filepath.Base(dir)
			purl := "pkg:deb/debian/" + name + "@" + strings.ReplaceAll(version, "+", "%2B") + "?distro=trixie"
			all[purl] = cdx.Component{Type: cdx.ComponentTypeLibrary, Name: name, Version: version, PackageURL: purl, BOMRef: purl}
		}
	}
	if found == 0 {
		return fmt.Errorf("look for packages: none of %s in %s", strings.Join(prefixes, ", "), root)
	}
	return nil
}

func packageVersion(dir string) (string, error) {
	for _, name := range []string{"changelog.Debian.gz", "changelog.gz", "changelog.Debian.amd64.gz"} {
		f, err := os.Open(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("read a changelog: %w", err)
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			return "", fmt.Errorf("read %s: %w", f.Name(), err)
		}
		line, err := bufio.NewReader(io.LimitReader(z, 4096)).ReadString('\n')
		if m := entry.FindStringSubmatch(line); err == nil && m != nil {
			return m[1], nil
		}
	}
	return "", nil
}
