package main

import "github.com/spf13/cobra"

func (a *app) hardwareCommand() *cobra.Command {
	return group(&cobra.Command{Use: "hardware", Short: "Ask one server or BMC what it is made of, without a fleet"},
		a.hardwareRedfishCommand(), a.hardwareIPMICommand(), a.hardwareDiffCommand())
}
