package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/ingot-metal/ingot/hardware"
	"github.com/ingot-metal/ingot/hardware/ipmi"
)

const ipmiLong = `Reads all that a BMC says of its server by IPMI over the network (RMCP+): FRUs,
sensors, event log, accounts, channels. Nothing is changed. The BMC is asked
gently: one session, closed whatever happens; one command at a time, with a
rest after a burst; and the account is tried once.

Stdout has exactly one document, ingot.inventory/v1, or with --readings
ingot.readings/v1. What is missing, broken or weak (cipher suite 0, an
anonymous user, the account that the BMC was delivered with) is a finding in
the document, and the exit code stays 0.

The password is read from the environment: --password-env names the variable.`

type ipmiFlags struct {
	user, passwordEnv string
	cipher            int
	readings          bool
}

func (a *app) hardwareIPMICommand() *cobra.Command {
	var f ipmiFlags
	c := &cobra.Command{
		Use: "ipmi HOST[:PORT]", Short: "Read what a BMC says of its server by IPMI", Long: ipmiLong,
		Example: "  BMC_PASSWORD=… ingot hardware ipmi 10.0.0.7 --user admin --password-env BMC_PASSWORD -o json",
		Args:    args(1, "the address of the BMC"),
		RunE:    func(cmd *cobra.Command, given []string) error { return a.hardwareIPMI(cmd.Context(), given[0], f) },
	}
	fl := c.Flags()
	fl.StringVar(&f.user, "user", "", "account on the BMC")
	fl.StringVar(&f.passwordEnv, "password-env", "", "name of the environment variable that holds the password")
	fl.IntVar(&f.cipher, "cipher", 0, "cipher suite, 3 or 17 (default: the better one that the BMC offers)")
	fl.BoolVar(&f.readings, "readings", false, "print what moves: power, temperatures, fans, sensors, the event log")
	return c
}

func (a *app) ipmiOptions(address string, f ipmiFlags) (ipmi.Options, error) {
	o := ipmi.Options{Address: address, User: f.user, Cipher: f.cipher, Timeout: a.timeout}
	if f.user == "" || f.passwordEnv == "" {
		return o, usagef("ipmi %s: want --user and --password-env", address)
	}
	if o.Password = hardware.Secret(a.env(f.passwordEnv)); o.Password == "" {
		return o, usagef("ipmi %s: the environment variable %s is empty", address, f.passwordEnv)
	}
	if f.cipher != 0 && f.cipher != 3 && f.cipher != 17 {
		return o, usagef("ipmi %s: --cipher %d: want 3 or 17", address, f.cipher)
	}
	return o, nil
}

func (a *app) hardwareIPMI(ctx context.Context, address string, f ipmiFlags) error {
	o, err := a.ipmiOptions(address, f)
	if err != nil {
		return err
	}
	v, s, err := ipmi.Crawl(ctx, o)
	suite := ""
	if s.Cipher > 0 { // else there was no session
		suite = fmt.Sprintf(", cipher suite %d", s.Cipher)
	}
	a.progress("requests %d, repeated %d, refused %d, dropped %d, seconds %.2f, most in flight 1%s",
		s.Requests, s.Repeated, s.Refused, s.Dropped, s.Took.Round(10*time.Millisecond).Seconds(), suite)
	if errors.Is(err, ipmi.ErrRefused) {
		return refusedLogin{err}
	}
	if err != nil {
		return err
	}
	return a.showViews([]hardware.View{v}, f.readings)
}
