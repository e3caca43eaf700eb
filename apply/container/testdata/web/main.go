// Web is what the tests' images hold: it answers with its version and environment, or crashes, or
// stays when it is asked to end.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if os.Getenv("BEHAVIOUR") == "crash" {
		os.Exit(3)
	}
	socket := "/data/socket-" + os.Getenv("VERSION")
	os.Remove(socket) // of the run before
	l, err := net.Listen("unix", socket)
	if err != nil {
		panic(err)
	}
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kept, _ := os.ReadFile("/data/kept")
		fmt.Fprintf(w, "%s %s %s", os.Getenv("VERSION"), os.Getenv("OWN"), kept)
	}))
	if os.Getenv("BEHAVIOUR") == "stay" {
		signal.Ignore(syscall.SIGTERM)
		select {}
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	<-end
}
