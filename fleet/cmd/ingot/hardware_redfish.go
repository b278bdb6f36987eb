package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/redfish"
)

const redfishLong = `Reads all that a BMC says of its servers by Redfish: parts, firmware, settings,
accounts. Nothing is changed. The BMC is asked gently: one session, closed
whatever happens; few requests at once, fewer when it slows down; and nothing
more after the first refused login.

Stdout has exactly one document, ingot.inventory/v1, or with --readings
ingot.readings/v1; where several systems stand behind one BMC it is a JSON
array of them, in the BMC's order, unless --system names one. What is missing
or broken is a finding in the document, and the exit code stays 0.

The password is read from the environment: --password-env names the variable.
A BMC with a certificate of its own needs --ca FILE, or --insecure, which
takes any certificate. Plain http:// is for mock servers and tunnels and needs
--insecure too: it shows the password to everyone on the way.

Answers are kept with their ETags, so that a second look costs the BMC little;
--cache "" keeps none.`

type redfishFlags struct {
	user, passwordEnv, ca, system, cache string
	insecure, readings                   bool
}

func (a *app) hardwareRedfishCommand() *cobra.Command {
	var f redfishFlags
	c := &cobra.Command{
		Use: "redfish URL", Short: "Read what a BMC says of its servers by Redfish", Long: redfishLong,
		Example: "  BMC_PASSWORD=… ingot hardware redfish https://10.0.0.7 --user admin --password-env BMC_PASSWORD --insecure -o json",
		Args:    args(1, "the URL of the BMC"),
		RunE:    func(cmd *cobra.Command, given []string) error { return a.hardwareRedfish(cmd.Context(), given[0], f) },
	}
	fl := c.Flags()
	fl.StringVar(&f.user, "user", "", "account on the BMC")
	fl.StringVar(&f.passwordEnv, "password-env", "", "name of the environment variable that holds the password")
	fl.StringVar(&f.ca, "ca", "", "file of PEM certificates that the BMC's is to be signed by")
	fl.BoolVar(&f.insecure, "insecure", false, "take any certificate, and http:// (mock servers, tunnels)")
	fl.BoolVar(&f.readings, "readings", false, "print what moves: power, temperatures, fans, sensors, logs")
	fl.StringVar(&f.system, "system", "", "Id of the one system to read, where the BMC has several")
	fl.StringVar(&f.cache, "cache", a.defaultCache(), "directory of answers that an unchanged BMC need not send again")
	return c
}

// defaultCache is in the user's cache directory, none where there is none.
func (a *app) defaultCache() string {
	dir := a.env("XDG_CACHE_HOME")
	if home := a.env("HOME"); dir == "" && home != "" {
		dir = filepath.Join(home, ".cache")
	}
	if !filepath.IsAbs(dir) {
		return ""
	}
	return filepath.Join(dir, "ingot", "redfish")
}

func (a *app) redfishOptions(url string, f redfishFlags) (redfish.Options, error) {
	o := redfish.Options{URL: url, User: f.user, Insecure: f.insecure, System: f.system, Timeout: a.timeout, Readings: f.readings}
	if f.user == "" || f.passwordEnv == "" {
		return o, usagef("redfish %s: want --user and --password-env", url)
	}
	if o.Password = hardware.Secret(a.env(f.passwordEnv)); o.Password == "" {
		return o, usagef("redfish %s: the environment variable %s is empty", url, f.passwordEnv)
	}
	if strings.HasPrefix(url, "http://") && !f.insecure {
		return o, usagef("redfish %s: http shows the password to everyone on the way; use https, or say --insecure", url)
	}
	if f.ca != "" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return o, fmt.Errorf("read CA: %w", err)
		}
		o.CA = pem
	}
	if f.cache != "" {
		o.Cache = redfish.DirCache(f.cache)
	}
	return o, nil
}

func (a *app) hardwareRedfish(ctx context.Context, url string, f redfishFlags) error {
	o, err := a.redfishOptions(url, f)
	if err != nil {
		return err
	}
	r, err := redfish.Crawl(ctx, o)
	s := r.Stats
	a.progress("requests %d, refused %d, seconds %.2f, most in flight %d, bytes %d, unchanged %d",
		s.Requests, s.Refused, s.Took.Round(10*time.Millisecond).Seconds(), s.InFlight, s.Bytes, s.Cached)
	if r.CacheErr != nil {
		a.progress("%v", r.CacheErr)
	}
	if len(r.Views) == 0 || ctx.Err() != nil {
		return deniedIsRefused(err)
	}
	if err != nil { // the document has it as a finding
		a.progress("not everything was read: %v", err)
	}
	return a.showViews(r.Views, f.readings)
}

func deniedIsRefused(err error) error {
	if errors.Is(err, redfish.ErrDenied) {
		return refusedLogin{err}
	}
	return err
}
