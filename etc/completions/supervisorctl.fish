complete -c supervisorctl -s c -l configuration -d 'Configuration file (searched for if not given)' -r -F
complete -c supervisorctl -s s -l serverurl -d 'Where supervisord listens: unix:///path or http://host:port' -r -f
complete -c supervisorctl -s u -l username -d 'User name for supervisord' -r
complete -c supervisorctl -s p -l password -d 'Password for supervisord' -r
complete -c supervisorctl -s r -l history_file -d 'Keep the history of the shell in this file' -r -F
complete -c supervisorctl -l format -d 'Form of the output: text or json; also allowed after the action' -r -f -a "text\t''
json\t''"
complete -c supervisorctl -l completions -d 'Print a completion script for bash, zsh or fish' -r -f -a "bash\t''
zsh\t''
fish\t''"
complete -c supervisorctl -s h -l help -d 'Print the options and leave'
complete -c supervisorctl -s i -l interactive -d 'Ask before shutdown and reload, and for a password'
complete -c supervisorctl -s v -l version -d 'Print the version of this program and leave'
complete -c supervisorctl -l man -d 'Print the manual page'
