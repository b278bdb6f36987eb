// Command idle is a first process that does nothing: what a boot costs before
// anything of ours runs. It says so and stays.
package main

import (
	"fmt"
	"time"
)

func main() {
	fmt.Println("FLOOR init")
	for {
		time.Sleep(time.Hour)
	}
}
