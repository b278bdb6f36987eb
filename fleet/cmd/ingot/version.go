package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/ingot-metal/ingot/fleet/render"
)

type version struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Time    string `json:"time,omitempty"`
	// Modified says that the tree held more than the commit.
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func readVersion() version {
	v := version{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if b.Main.Version != "" {
		v.Version = b.Main.Version
	}
	for _, s := range b.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.time":
			v.Time = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "What this program is built from", Args: args(0, ""),
		Example: "  ingot version\n  ingot version -o json",
		RunE: func(*cobra.Command, []string) error {
			v := readVersion()
			return a.show(v, func(render.Style) string {
				s := fmt.Sprintf("ingot %s %s %s\n", v.Version, v.Platform, v.Go)
				if v.Commit != "" {
					s += fmt.Sprintf("commit %s of %s\n", v.Commit, v.Time)
				}
				return s
			})
		},
	}
}
