// A Go program that inherits its listening socket as sd_listen_fds(3) has it, and answers every request with its name.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
)

func main() {
	if os.Getenv("LISTEN_PID") != fmt.Sprint(os.Getpid()) || os.Getenv("LISTEN_FDS") != "1" {
		panic("LISTEN_PID is " + os.Getenv("LISTEN_PID"))
	}
	listener, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		panic(err)
	}
	http.HandleFunc("/", func(answer http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(answer, os.Getenv("BALANCER_BACKEND"))
	})
	panic(http.Serve(listener, nil))
}
